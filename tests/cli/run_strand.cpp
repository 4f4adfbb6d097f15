#include "run_strand.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <utility>

#include "core/error.h"

namespace strand {
namespace {

using File = std::unique_ptr<FILE, int (*)(FILE*)>;

/// A nameless temporary file: unlike a pipe it takes any amount of output without a reader.
File temporary() {
  File file(std::tmpfile(), std::fclose);
  if (!file) fail_errno("create", "a temporary file");
  return file;
}

std::string contents(FILE* file) {
  std::rewind(file);
  std::string text;
  std::array<char, 4096> buffer{};
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), file)) > 0;) text.append(buffer.data(), n);
  return text;
}

[[noreturn]] void become(std::vector<std::string>& words, const Start& start, int out, int err) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (start.directory.empty() || chdir(start.directory.c_str()) == 0) {
    if (start.in_child) start.in_child();
    execv(argv[0], argv.data());
  }
  _exit(127);
}

int wait_for(pid_t child, const std::string& name) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) fail_errno("wait for", name);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void set_columns(int terminal, int columns) {
  winsize size{};
  size.ws_row = 50;
  size.ws_col = static_cast<unsigned short>(columns);
  if (ioctl(terminal, TIOCSWINSZ, &size) != 0) fail_errno("set the width of", "a terminal");
}

}  // namespace

Outcome run_strand(const std::vector<std::string>& arguments, const std::string& directory,
                   const std::function<void(pid_t)>& meanwhile) {
  std::vector<std::string> words = {strand_program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program(std::move(words), directory, meanwhile);
}

std::string strand_program() {
  return STRAND_BINARY_DIR "/strand";
}

Outcome run_program(std::vector<std::string> words, const std::string& directory,
                    const std::function<void(pid_t)>& meanwhile) {
  return run_started(std::move(words), {.directory = directory, .in_child = {}, .meanwhile = meanwhile});
}

Outcome run_started(std::vector<std::string> words, const Start& start) {
  const File out = temporary();
  const File err = temporary();
  const pid_t child = fork();
  if (child < 0) fail_errno("start", words.front());
  if (child == 0) become(words, start, fileno(out.get()), fileno(err.get()));
  if (start.meanwhile) start.meanwhile(child);
  const int status = wait_for(child, words.front());
  return {status, contents(out.get()), contents(err.get())};
}

OnTerminal run_on_terminal(std::vector<std::string> words, int columns, const Start& start) {
  int ours = -1, theirs = -1;
  if (openpty(&ours, &theirs, nullptr, nullptr, nullptr) != 0) fail_errno("open", "a pseudo-terminal");
  set_columns(ours, columns);
  const pid_t child = fork();
  if (child < 0) fail_errno("start", words.front());
  if (child == 0) {
    close(ours);
    become(words, start, theirs, theirs);
  }
  close(theirs);
  if (start.meanwhile) start.meanwhile(child);
  OnTerminal result;
  std::array<char, 4096> buffer{};
  ssize_t count = 0;
  while ((count = read(ours, buffer.data(), buffer.size())) > 0)  // ends with EIO when the last writer is gone
    result.text.append(buffer.data(), static_cast<size_t>(count));
  close(ours);
  result.status = wait_for(child, words.front());
  return result;
}

void redirect(int descriptor, const char* path) {
  const int file = open(path, O_WRONLY);
  if (file < 0 || dup2(file, descriptor) != descriptor) _exit(126);
  close(file);
}

}  // namespace strand
