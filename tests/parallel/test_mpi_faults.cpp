// A rank that dies, hangs, stops or fails in the middle of a step ends all ranks, with a line that says where and who.
// Runs mpirun; the clock is only asked whether an hour's sleep was cut short.
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string>

#include "tests/catch.h"

namespace {

struct Ended {
  int status = -1;
  std::string said;  ///< stdout and stderr of all ranks, and mpirun's own
  double seconds = 0;
};

constexpr const char* watchdog = "2";

Ended run_with(const std::string& fault) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string command = std::string(STRAND_MPIRUN " -n 3 '") + MPI_FAULTS_DRIVER "' " + fault + " " + watchdog;
  FILE* pipe = popen((command + " 2>&1 </dev/null").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Ended ended;
  std::array<char, 4096> buffer{};
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) ended.said.append(buffer.data(), n);
  const int status = pclose(pipe);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ended.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return ended;
}

/// How many of these lines are strand's and not mpirun's.
int lines_with(const std::string& text, const std::string& what) {
  int count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

void check_ended(const Ended& ended) {
  CHECK(ended.status != 0);
  CHECK(ended.seconds < 60);
}

using Catch::Contains;

/// Whether a user learns about the rank that was killed or left, by strand's words or (Open MPI 5, which kills the
/// others at once) by mpirun's.
bool is_named_when_gone(const std::string& said, const std::string& by_strand) {
  const auto contains = [&](const std::string& words) { return said.find(words) != std::string::npos; };
  return contains(by_strand) || (contains("prterun ") && contains("process rank 2 with PID"));
}

TEST_CASE("Nothing wrong: the same program ends with 0, and strand says nothing") {
  // mpirun and hwloc may have something to say about the machine: no /sys, no network.
  const Ended ended = run_with("none");
  INFO(ended.said);
  CHECK(ended.status == 0);
  CHECK(lines_with(ended.said, "strand") == 0);
}

TEST_CASE("A rank that never comes: the watchdog names step, layer and operation, and whom it waited for") {
  const Ended ended = run_with("sleep");
  INFO(ended.said);
  check_ended(ended);
  CHECK(lines_with(ended.said, "strand: error: rank ") == 1);
  CHECK_THAT(ended.said, Contains("of 3 has waited 2 s in step 12, layer 3 (dispatch, experts group): rank 2 has not "
                                  "come (last seen in step 12, layer 2, combine); ending all ranks"));
}

TEST_CASE("A stopped process (SIGSTOP): the same") {
  const Ended ended = run_with("stop");
  INFO(ended.said);
  check_ended(ended);
  CHECK_THAT(ended.said, Contains("in step 12, layer 3 (dispatch, experts group): rank 2 has not come (last seen in "
                                  "step 12, layer 2, combine)"));
}

TEST_CASE("A killed process (SIGKILL): the others say where they were when mpirun ends them") {
  const Ended ended = run_with("kill");
  INFO(ended.said);
  check_ended(ended);
  CHECK(is_named_when_gone(ended.said,
                           "of 3 was told to end (signal 15) while it waited in step 12, layer 3 (dispatch, "
                           "experts group): rank 2 has not come (last seen in step 12, layer 2, combine)"));
}

TEST_CASE("A process that leaves silently with exit code 0 does not leave the others waiting") {
  const Ended ended = run_with("exit");
  INFO(ended.said);
  check_ended(ended);
  CHECK(is_named_when_gone(ended.said, "in step 12, layer 3 (dispatch, experts group): rank 2 has not come"));
}

TEST_CASE("An error of one rank is told with its rank and ends all") {
  const Ended ended = run_with("throw");
  INFO(ended.said);
  check_ended(ended);
  CHECK(lines_with(ended.said, "strand: ") == 1);
  CHECK_THAT(ended.said, Contains("strand: error: rank 2: the disk is full"));
}

TEST_CASE("Ranks in different collectives: the watchdog shows both") {
  const Ended ended = run_with("mixed");
  INFO(ended.said);
  check_ended(ended);
  CHECK(lines_with(ended.said, "strand: error: rank ") == 1);
  CHECK_THAT(ended.said, Contains("(dispatch, experts group): rank 2 has not come (last seen in step 12, layer 2, "
                                  "statistics)") ||
                             Contains("rank 2 of 3 has waited 2 s in step 12, layer 2 (statistics, all ranks): rank 0 "
                                      "has not come (last seen in step 12, layer 3, dispatch)"));
}

}  // namespace
