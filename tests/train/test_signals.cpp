// Signals that a training run gets from terminals, batch systems and people, and the name under which they find it.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "core/temporary_path.h"
#include "tests/catch.h"
#include "tests/e2e/workspace.h"
#include "train/signals.h"

namespace strand {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// Steps enough not to end before a signal comes.
const std::vector<std::string> long_run = {"--set", "train.steps=100000", "--set", "train.eval_every=0"};

std::vector<std::string> command(const std::string& program, const std::string& name,
                                 const std::vector<std::string>& more) {
  std::vector<std::string> words = {program};
  for (const std::string& word : workspace().train(name, more)) words.push_back(word);
  return words;
}

bool runs(pid_t process) {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(process), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/// Waits until the run has logged a step, or has ended.
void wait_for_steps(pid_t process, const std::string& name) {
  while (runs(process)) {
    if (fs::exists(workspace().run(name) / "log.jsonl") && !workspace().log(name).empty()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

Outcome signalled(const std::string& name, const std::function<void(pid_t)>& signals,
                  const std::function<void()>& in_child = {}, const std::vector<std::string>& more = long_run) {
  return run_started(command(strand_program(), name, more),
                     {.directory = workspace().root(), .in_child = in_child, .meanwhile = [&](pid_t process) {
                        wait_for_steps(process, name);
                        signals(process);
                      }});
}

/// The run ended with 0, and its newest checkpoint is of the last step that it logged.
void check_saved(const std::string& name, const Outcome& outcome, int signal) {
  INFO(name << ": " << outcome.err);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("stopped by signal " + std::to_string(signal)));
  const int64_t last = workspace().log(name).back()["step"].get<int64_t>();
  CHECK(fs::exists(workspace().checkpoint(name, last) / "model.safetensors"));
}

/// The mask of a thread, as its status says it.
uint64_t blocked_signals(const fs::path& status) {
  std::string word, mask;
  std::ifstream in(status);
  while (in >> word)
    if (word == "SigBlk:" && in >> mask) return std::stoull(mask, nullptr, 16);
  return 0;
}

std::string first_line(const fs::path& file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}
}  // namespace

TEST_CASE("What says that the time is up makes a run save and end") {
  const int signal = GENERATE(SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU);
  const std::string name = "signal" + std::to_string(signal);
  check_saved(name, signalled(name, [signal](pid_t process) { kill(process, signal); }), signal);
}

TEST_CASE("Warnings may come again and again, and be followed by SIGTERM") {
  const int signal = GENERATE(SIGHUP, SIGUSR1, SIGXCPU);
  const std::string name = "repeated" + std::to_string(signal);
  const Outcome outcome = signalled(name, [signal](pid_t process) {
    for (int i = 0; i < 5; ++i) {
      kill(process, signal);
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
    kill(process, SIGTERM);
  });
  check_saved(name, outcome, signal);
}

TEST_CASE("timeout signals a command twice at once, which is one request") {
  const Outcome outcome = signalled("timeout", [](pid_t process) {
    kill(process, SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // so that both are delivered
    kill(process, SIGTERM);
  });
  check_saved("timeout", outcome, SIGTERM);
}

TEST_CASE("A second SIGTERM ends the process at once, and what was unfinished is removed") {
  const fs::path directory = workspace().root() / "second";
  for (const char* part : {"unfinished.tmp", "kept"}) fs::create_directories(directory / part);
  std::ofstream(directory / "unfinished.tmp" / "file") << "x";
  std::ofstream(directory / "unfinished") << "x";
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const TemporaryPath tree((directory / "unfinished.tmp").string()), file((directory / "unfinished").string());
    const StopSignals signals;
    raise(SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // so that it is no echo of the first
    raise(SIGTERM);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(directory)) left.push_back(entry.path().filename());
  CHECK(left == std::vector<std::string>{"kept"});
}

TEST_CASE("A signal that was ignored when the run was started stays ignored") {
  const auto ignored = GENERATE(SIGHUP, SIGINT, SIGUSR1);
  const std::string name = "ignored" + std::to_string(ignored);
  const Outcome outcome = signalled(
      name, [ignored](pid_t process) { kill(process, ignored); }, [ignored] { signal(ignored, SIG_IGN); },
      {"--set", "train.steps=300", "--set", "train.eval_every=0"});
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("done: 300 steps"));
}

#ifndef __SANITIZE_ADDRESS__  // whose library has to be the first one that is loaded
TEST_CASE("A library that takes a signal when it is loaded changes neither that it is ignored nor that it ends a run") {
  const bool ignored = GENERATE(false, true);
  const std::string name = ignored ? "taken_ignored" : "taken";
  const auto in_child = [ignored] {
    setenv("LD_PRELOAD", TAKES_HANGUP, 1);
    if (ignored) signal(SIGHUP, SIG_IGN);
  };
  if (!ignored) {
    check_saved(name,
                signalled(
                    name, [](pid_t process) { kill(process, SIGHUP); }, in_child),
                SIGHUP);
    return;
  }
  const Outcome outcome = signalled(name, [](pid_t process) { kill(process, SIGHUP); }, in_child,
                                    {"--set", "train.steps=300", "--set", "train.eval_every=0"});
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("done: 300 steps"));
}
#endif

TEST_CASE("No thread that computes can be interrupted by a signal") {
  std::vector<std::string> open;  // threads that take SIGTERM
  pid_t main_thread = 0;
  size_t threads = 0;
  const Outcome outcome = signalled("interrupted", [&](pid_t process) {
    main_thread = process;
    for (const auto& task : fs::directory_iterator(fs::path("/proc") / std::to_string(process) / "task")) {
      ++threads;
      if ((blocked_signals(task.path() / "status") >> (SIGTERM - 1) & 1u) == 0) open.push_back(task.path().filename());
    }
    kill(process, SIGTERM);
  });
  check_saved("interrupted", outcome, SIGTERM);
  CHECK(threads >= 3);  // tiny.yaml computes on two
  REQUIRE(open.size() == 1);
  CHECK(open[0] != std::to_string(main_thread));
}

TEST_CASE("A process has the name of the file that started it, though it starts itself again") {
  const std::string link = GENERATE(std::string(), std::string("trainer"));
  std::string program = strand_program();
  if (!link.empty()) {
    program = workspace().root() / link;
    fs::create_symlink(strand_program(), program);
  }
  const std::string run = "named" + link;
  std::string name, environment;
  const auto no_policy = [] {
    for (const char* variable : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}) unsetenv(variable);
  };
  const Outcome outcome =
      run_started(command(program, run, long_run),
                  {.directory = workspace().root(), .in_child = no_policy, .meanwhile = [&](pid_t process) {
                     wait_for_steps(process, run);
                     const fs::path directory = fs::path("/proc") / std::to_string(process);
                     name = first_line(directory / "comm");
                     environment = first_line(directory / "environ");
                     kill(process, SIGTERM);
                   }});
  CHECK(outcome.status == 0);
  CHECK(name == (link.empty() ? "strand" : link));
  CHECK_THAT(environment, Contains("GOMP_SPINCOUNT=10000"));  // it did start itself again
}

}  // namespace strand
