// Several hosts, by scripts/launch/hosts.sh: two hosts that two_hosts.sh makes on this machine, with one rank each.
// Training and experts over the network; a network that breaks, is slow or loses packets; a host that dies or freezes;
// a run directory that is not shared. The clock is only asked whether waiting for ever was cut short.
#include <fmt/core.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
constexpr int watchdog = 3;
constexpr int cannot_make_namespaces = 77;
/// Watchdog, hosts.sh's own patience (20 s), and a busy machine; mpirun by itself stays for a quarter of an hour.
constexpr double end_within_seconds = 120;

Outcome two_hosts(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {STRAND_SOURCE_DIR "/tests/e2e/two_hosts.sh"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program(words, workspace().root());
}

/// Two hosts, for the life of this object. Where the system does not let us make them, `hosts.made` is false and the
/// test has nothing to test.
class Hosts {
 public:
  Hosts() {
    static int number = 0;
    folder_ = (workspace().root() / fmt::format("hosts_{}", ++number)).string();
    const Outcome outcome = two_hosts({"up", folder_});
    made = outcome.status == 0;
    if (made) return;
    std::fputs(outcome.err.c_str(), stdout);  // CTest looks for this line
    if (outcome.status != cannot_make_namespaces) FAIL("two_hosts.sh: " << outcome.err);
  }
  ~Hosts() { two_hosts({"down", folder_}); }
  Hosts(const Hosts&) = delete;
  Hosts& operator=(const Hosts&) = delete;

  /// `hosts.sh hosts.txt COMMAND...` on the first host.
  Outcome run(const std::vector<std::string>& command, const std::function<void(pid_t)>& meanwhile = {}) const {
    std::vector<std::string> words = {"/usr/bin/env",
                                      "AGENT=" + folder_ + "/agent",
                                      "STRAND=" + program,
                                      STRAND_SOURCE_DIR "/tests/e2e/two_hosts.sh",
                                      "on",
                                      folder_,
                                      "a",
                                      STRAND_SOURCE_DIR "/scripts/launch/hosts.sh",
                                      folder_ + "/hosts.txt"};
    words.insert(words.end(), command.begin(), command.end());
    return run_program(words, workspace().root(), meanwhile);
  }
  /// Does to the second host, or to the cable, what two_hosts.sh says of this word. Returns what it prints.
  std::string disturb(const std::string& action) const {
    const Outcome outcome = two_hosts({action, folder_});
    INFO(action << ": " << outcome.err);
    REQUIRE(outcome.status == 0);
    return outcome.out;
  }
  void cut() const { disturb("cut"); }
  void kill_second() const { disturb("kill"); }

  bool made = false;
  std::string program = strand_program();

 private:
  std::string folder_;
};

/// `strand train`, the experts over both hosts.
std::vector<std::string> training(const std::string& name, int64_t steps, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = workspace().train(name, more);
  for (const std::string& setting :
       {std::string("run.threads=1"), fmt::format("train.steps={}", steps), std::string("train.eval_every=0"),
        std::string("train.checkpoint_every=5"), std::string("parallel.expert_parallel=2"),
        fmt::format("parallel.watchdog_seconds={}", watchdog)})
    arguments.insert(arguments.end(), {"--set", setting});
  return arguments;
}

bool has_logged(const std::string& name, size_t rows) {
  return fs::exists(workspace().run(name) / "log.jsonl") && workspace().log(name).size() >= rows;
}

bool writes_checkpoint(const std::string& name) {
  std::error_code vanished;
  for (const auto& entry : fs::directory_iterator(workspace().run(name) / "checkpoints", vanished))
    if (entry.path().extension() == ".tmp") return true;
  return false;
}

bool runs(pid_t child) {
  siginfo_t ended{};
  return waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0;
}

/// Trains without end until `due`, lets `disturb` break something, and checks that everything ends. Returns what was
/// said on standard error.
std::string check_end(const Hosts& hosts, const std::string& name, const std::function<bool()>& due,
                      const std::function<void()>& disturb) {
  std::chrono::steady_clock::time_point broken;
  const Outcome outcome = hosts.run(training(name, 1000000), [&](pid_t launcher) {
    while (runs(launcher) && !due()) std::this_thread::sleep_for(std::chrono::microseconds(200));
    disturb();
    broken = std::chrono::steady_clock::now();
    const auto waits = [&] { return std::chrono::steady_clock::now() - broken < std::chrono::duration<double>(600); };
    while (runs(launcher) && waits()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (runs(launcher)) kill(launcher, SIGKILL);
  });
  INFO(outcome.err);
  CHECK(outcome.status != 0);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - broken).count() < end_within_seconds);
  REQUIRE(has_logged(name, 1));
  return outcome.err;
}

/// The run goes on, on one host.
Outcome go_on(const std::string& name, int64_t steps) {
  return workspace().strand(workspace().train(name, {"--set", fmt::format("train.steps={}", steps), "--set",
                                                     "train.checkpoint_every=5", "--set", "train.eval_every=0"}));
}

/// It goes on to a step after those that it has logged.
void check_goes_on(const std::string& name) {
  const int64_t steps = (static_cast<int64_t>(workspace().log(name).size()) / 5 + 2) * 5;
  const Outcome continued = go_on(name, steps);
  INFO(continued.err);
  CHECK(continued.status == 0);
  CHECK_THAT(continued.err + continued.out, Contains("continuing") || Contains("continues") || Contains("step_"));
  CHECK(workspace().log(name).back()["step"] == steps);
}

std::string check_disturbed(const Hosts& hosts, const std::string& name, const std::function<bool()>& due,
                            const std::function<void()>& disturb) {
  std::string said = check_end(hosts, name, due, disturb);
  check_goes_on(name);
  return said;
}
}  // namespace

TEST_CASE("two hosts train the model of one, its experts on both") {
  const Hosts hosts;
  if (!hosts.made) return;
  const Outcome outcome = hosts.run(training("two", 10));
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.status == 0);
  workspace().trained("one", {"--set", "train.steps=10", "--set", "train.eval_every=0"});
  const auto two = workspace().log("two"), one = workspace().log("one");
  REQUIRE(two.size() == one.size());
  CHECK(two.front()["loss"].get<double>() == Approx(one.front()["loss"].get<double>()).epsilon(1e-5));
  CHECK(two.back()["loss"].get<double>() == Approx(one.back()["loss"].get<double>()).epsilon(1e-4));
}

TEST_CASE("two hosts reproduce reference files, the experts on both") {
  const Hosts hosts;
  if (!hosts.made) return;
  const Outcome outcome = hosts.run({"verify", "--threads", "1", "--expert-parallel", "2",
                                     STRAND_SOURCE_DIR "/tests/data/ranks_softmax_bias.safetensors",
                                     STRAND_SOURCE_DIR "/tests/data/ranks_sigmoid_o_v.safetensors"});
  INFO(outcome.out << outcome.err);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("2 of 2 files pass"));
}

TEST_CASE("the network breaks in a step: ranks, mpirun and script end, and one host goes on") {
  const Hosts hosts;
  if (!hosts.made) return;
  const std::string said = check_disturbed(
      hosts, "cut", [] { return has_logged("cut", 12); }, [&] { hosts.cut(); });
  CHECK_THAT(said, Contains(fmt::format("has waited {} s", watchdog)) &&
                       Contains("ranks on other hosts cannot be seen; ending all ranks"));
}

TEST_CASE("the network breaks in a checkpoint: all end, and one host goes on from the one before") {
  const Hosts hosts;
  if (!hosts.made) return;
  check_disturbed(
      hosts, "torn",
      [begun = false]() mutable {
        begun = begun || has_logged("torn", 6);  // reading the log takes longer than a checkpoint lasts
        return begun && writes_checkpoint("torn");
      },
      [&] { hosts.cut(); });
}

TEST_CASE("all processes of one host are killed: the others end, and one host goes on") {
  const Hosts hosts;
  if (!hosts.made) return;
  check_disturbed(
      hosts, "lost", [] { return has_logged("lost", 12); }, [&] { hosts.kill_second(); });
}

TEST_CASE("a host that is frozen: the other one ends; thawed, it ends too, and the run goes on from then on only") {
  const Hosts hosts;
  if (!hosts.made) return;
  const std::string name = "frozen";
  const std::string said = check_end(
      hosts, name, [&] { return has_logged(name, 12); }, [&] { hosts.disturb("freeze"); });
  REQUIRE(std::stoi(hosts.disturb("ranks")) == 1);
  CHECK_THAT(said, Contains(fmt::format("has waited {} s", watchdog)));
  const std::string log = bytes_of(workspace().run(name) / "log.jsonl");
  const Outcome refused = go_on(name, 1000);
  CHECK(refused.status == 1);
  CHECK_THAT(refused.err, Contains("other processes of the same run have not"));
  hosts.disturb("thaw");
  const auto thawed = std::chrono::steady_clock::now();
  const auto waits = [&] {
    return std::chrono::steady_clock::now() - thawed < std::chrono::duration<double>(end_within_seconds);
  };
  while (std::stoi(hosts.disturb("ranks")) > 0 && waits()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(std::stoi(hosts.disturb("ranks")) == 0);
  CHECK(bytes_of(workspace().run(name) / "log.jsonl") == log);
  check_goes_on(name);
}

TEST_CASE(
    "a network that is slow and loses packets, one that is gone for a second, a host that pauses: the run goes on") {
  const Hosts hosts;
  if (!hosts.made) return;
  const std::string name = GENERATE("slow", "interrupted", "paused");
  const Outcome outcome = hosts.run(training(name, 12, {"--set", "parallel.watchdog_seconds=60"}), [&](pid_t launcher) {
    while (runs(launcher) && !has_logged(name, 2)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (name == "slow") return static_cast<void>(hosts.disturb("slow"));
    hosts.disturb(name == "paused" ? "freeze" : "cut");
    std::this_thread::sleep_for(std::chrono::seconds(1));
    hosts.disturb(name == "paused" ? "thaw" : "mend");
  });
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.status == 0);
  workspace().trained("still_" + name, {"--set", "train.steps=12", "--set", "train.eval_every=0"});
  const auto there = workspace().log(name), alone = workspace().log("still_" + name);
  REQUIRE(there.size() == alone.size());
  CHECK(there.back()["loss"].get<double>() == Approx(alone.back()["loss"].get<double>()).epsilon(1e-4));
}

TEST_CASE("a run directory that the hosts do not share is refused, and nothing is written") {
  // On host-b the same relative paths are those of another folder.
  const fs::path other = workspace().root() / "other_disk", starter = workspace().root() / "start_elsewhere";
  fs::create_directory(other);
  for (const char* file : {"train.bin", "train.idx", "val.bin", "val.idx", "tokenizer.model", "tiny.yaml"})
    fs::copy_file(workspace().root() / file, other / file);
  std::ofstream(starter) << "#!/bin/sh\n[ \"$(hostname)\" != host-b ] || cd '" << other.string()
                         << "' || exit 1\nexec '" << strand_program() << "' \"$@\"\n";
  fs::permissions(starter, fs::perms::owner_all);
  Hosts hosts;
  if (!hosts.made) return;
  hosts.program = starter.string();
  const Outcome outcome = hosts.run(training("apart", 10, {"--set", "run.dir=runs_of_each"}));
  INFO(outcome.out << outcome.err);
  CHECK(outcome.status != 0);
  CHECK_THAT(outcome.err, Contains("apart of rank 0 on host-a is not shared: rank 1 on host-b does not see"));
  CHECK_FALSE(fs::exists(workspace().root() / "runs_of_each"));
  CHECK_FALSE(fs::exists(other / "runs_of_each"));
}
