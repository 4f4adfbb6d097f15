#include "run_strand.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>

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

[[noreturn]] void become(std::vector<char*>& argv, const std::string& directory, FILE* out, FILE* err) {
  dup2(fileno(out), STDOUT_FILENO);
  dup2(fileno(err), STDERR_FILENO);
  if (directory.empty() || chdir(directory.c_str()) == 0) execv(argv[0], argv.data());
  _exit(127);
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
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const File out = temporary();
  const File err = temporary();
  const pid_t child = fork();
  if (child < 0) fail_errno("start", words.front());
  if (child == 0) become(argv, directory, out.get(), err.get());
  if (meanwhile) meanwhile(child);
  int status = 0;
  if (waitpid(child, &status, 0) != child) fail_errno("wait for", words.front());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, contents(out.get()), contents(err.get())};
}

}  // namespace strand
