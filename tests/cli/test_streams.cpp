// Standard input, output and error that are closed, full or read by nobody.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// A command for each way to print a result; they work in workspace() with the run `seen`.
const std::vector<std::vector<std::string>>& printing_commands() {
  static const std::vector<std::vector<std::string>> all = {
      {"--help"},
      {"--version"},
      {"eval", "--help"},
      {"config", "tiny.yaml"},
      {"config", "--help-keys"},
      {"plan", "tiny.yaml"},
      {"plan", "tiny.yaml", "--json"},
      {"inspect", "runs/seen"},
      {"inspect", "train"},
      {"eval", "runs/seen", "--data", "val"},
      {"eval", "runs/seen", "--data", "val", "--json"},
      {"analyse", "runs/seen", "--data", "text=val", "--tokens", "64"},
      {"generate", "runs/seen", "--prompt", "The river", "--max-tokens", "4"},
      {"generate", "runs/seen", "--prompt", "The river", "--prompt", "A", "--max-tokens", "4"},
      {"generate", "runs/seen", "--prompt", "The river", "--max-tokens", "4", "--print-ids"},
      {"bench", "tiny.yaml", "--steps", "1", "--warmup", "0", "--profiled", "1"},
      {"verify", STRAND_SOURCE_DIR "/tests/data/lb_microbatch.safetensors"},
      {"tokenize", "text", "--tokenizer", "tokenizer.model", "--out", "again"},
      {"train-tokenizer", "text", "--vocab-size", "320", "--out", "again.model"}};
  return all;
}

const Workspace& space_with_run() {
  static const bool made = [] {
    workspace().trained("seen");
    return true;
  }();
  (void)made;
  return workspace();
}

Outcome run_with(const std::vector<std::string>& arguments, const std::function<void()>& in_child) {
  std::vector<std::string> words = {strand_program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_started(words, {.directory = space_with_run().root(), .in_child = in_child, .meanwhile = {}});
}

/// Standard output becomes a pipe whose reader is gone.
void closed_pipe() {
  int ends[2];
  if (pipe(ends) != 0 || dup2(ends[1], STDOUT_FILENO) != STDOUT_FILENO) _exit(126);
  close(ends[0]);
  close(ends[1]);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  return text;
}
}  // namespace

TEST_CASE("A result that cannot be written is an error, of every command") {
  for (const auto& command : printing_commands()) {
    INFO(joined(command));
    const Outcome full = run_with(command, [] { redirect(STDOUT_FILENO, "/dev/full"); });
    CHECK(full.status == 1);
    CHECK_THAT(full.err, Contains("strand: error: cannot write to standard output: No space left on device\n"));
    const Outcome unread = run_with(command, closed_pipe);
    CHECK(unread.status == 1);
    CHECK_THAT(unread.err, Contains("strand: error: cannot write to standard output: Broken pipe\n"));
  }
}

TEST_CASE("A pipe that somebody made non-blocking: all of the output arrives, however slowly it is read") {
  const std::string expected = run_with({"config", "--help-keys"}, {}).out;
  constexpr int capacity = 4096;
  REQUIRE(expected.size() > 2 * capacity);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  REQUIRE(fcntl(ends[1], F_SETPIPE_SZ, capacity) == capacity);
  REQUIRE(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
  std::string read_slowly;
  std::thread reader([&] {
    int waiting = 0;  // the reader begins when the pipe is full
    for (int look = 0; look < 10'000 && waiting < capacity; ++look) {
      if (ioctl(ends[0], FIONREAD, &waiting) != 0) break;
      usleep(1000);
    }
    char part[512];
    for (ssize_t count = 0; (count = read(ends[0], part, sizeof part)) > 0;) {
      read_slowly.append(part, static_cast<size_t>(count));
      usleep(100);
    }
  });
  const Outcome outcome = run_with({"config", "--help-keys"}, [&] { dup2(ends[1], STDOUT_FILENO); });
  const bool shared_as_it_was = (fcntl(ends[1], F_GETFL) & O_NONBLOCK) != 0;
  close(ends[1]);
  reader.join();
  close(ends[0]);
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  CHECK((read_slowly == expected));
  CHECK(shared_as_it_was);
}

TEST_CASE("The exit code does not depend on standard error") {
  const auto errors_to = [](const char* path, bool result_too) {
    return [=] {
      redirect(STDERR_FILENO, path);
      if (result_too) redirect(STDOUT_FILENO, path);
    };
  };
  for (const auto& command : printing_commands()) {
    INFO(joined(command));
    CHECK(run_with(command, errors_to("/dev/full", false)).status == 0);
    CHECK(run_with(command, errors_to("/dev/full", true)).status == 1);
  }
  CHECK(run_with({"inspect", "nothing"}, errors_to("/dev/full", false)).status == 1);
  CHECK(run_with({"inspekt"}, errors_to("/dev/full", false)).status == 2);
  CHECK(run_with({"inspect", "nothing"}, [] { close(STDERR_FILENO); }).status == 1);
}

TEST_CASE("Closed descriptors are no place for files: the program works, and its files hold what they should") {
  const Workspace& space = space_with_run();
  const std::string expected = bytes_of(space.checkpoint("seen", 20) / "model.safetensors");
  const std::map<std::string, std::vector<int>> closed = {
      {"in", {0}}, {"out", {1}}, {"err", {2}}, {"out_err", {1, 2}}, {"all", {0, 1, 2}}};
  for (const auto& [name, descriptors] : closed) {
    INFO(name);
    const Outcome outcome = run_with(space.train(name), [&descriptors = descriptors] {
      for (const int descriptor : descriptors) close(descriptor);
    });
    CHECK(outcome.status == 0);
    CHECK(space.log(name).size() == 21);  // a line that is no JSON throws
    CHECK(bytes_of(space.checkpoint(name, 20) / "model.safetensors") == expected);
  }
}

TEST_CASE("Training goes on without a reader, and ends with 0") {
  const Workspace& space = space_with_run();
  const Outcome outcome = run_with(space.train("unread"), closed_pipe);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.err, Contains("cannot write to standard output: Broken pipe; training goes on"));
  CHECK(outcome.err.find("Broken pipe") == outcome.err.rfind("Broken pipe"));
  CHECK(space.log("unread").size() == 21);
  CHECK(fs::exists(space.checkpoint("unread", 20) / "model.safetensors"));
}

TEST_CASE("Training goes on when the disk of its output is full, and says at the end that output was lost") {
  const Workspace& space = space_with_run();
  const Outcome outcome = run_with(space.train("full"), [] { redirect(STDOUT_FILENO, "/dev/full"); });
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("strand: error: cannot write to standard output: No space left on device"));
  CHECK(space.log("full").size() == 21);
  CHECK(fs::exists(space.checkpoint("full", 20) / "model.safetensors"));
}

TEST_CASE("A file that grows past the limit of its size is an error that names it") {
  const Workspace& space = space_with_run();
  const Outcome outcome = run_with(space.train("limited"), [] {
    const rlimit limit{20'000, 20'000};
    setrlimit(RLIMIT_FSIZE, &limit);
  });
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("model.safetensors") && Contains("File too large"));
  CHECK(!fs::exists(space.checkpoint("limited", 10)));
}

}  // namespace strand
