// The emulation sees what it says it sees: every seeded bug is reported, or its results are wrong, in the ways of
// building that can see it; and correct programs beside them are not reported. Each runs in a process of its own, since
// a fault ends the work of a device.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/context_switch.h"
#include "gpu_emulation/control.h"
#include "gpu_emulation/seeded_programs/programs.h"
#include "tests/catch.h"

namespace {

/// What became of the program: the kinds of reports, then "wrong" if results were wrong; "fault" if the process ended.
std::string outcome_of(const seeded_programs::Bug& bug, uint64_t seed) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);  // AddressSanitizer and Catch2 say much of a fault
    close(STDOUT_FILENO);
    gpu_emulation::set_order(gpu_emulation::Order::random, seed);
    const bool right = bug.run();
    std::string text;
    for (const gpu_emulation::Report& report : gpu_emulation::take_reports())
      if (text.find(report.kind) == std::string::npos) text += report.kind + " ";
    if (!right) text += "wrong ";
    const auto unused = write(ends[1], text.data(), text.size());
    (void)unused;
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0 ? text : text + "fault ";
}

const char* expected_of(const seeded_programs::Bug& bug) {
#if GPU_EMULATION_ASAN
  return bug.sanitized;
#else
  return gpu_emulation::checker_on ? bug.checked : bug.plain;
#endif
}

}  // namespace

namespace {
void check_that_all_are_seen(const std::vector<seeded_programs::Bug>& bugs) {
  const char* shown = std::getenv("SHOW_OUTCOMES");  // of all, for whoever adds one
  for (const seeded_programs::Bug& bug : bugs) {
    std::string expected = expected_of(bug);
    const bool by_luck = expected.substr(0, 1) == "?";
    if (by_luck) expected.erase(0, 1);
    int seen = 0;
    std::string outcomes;
    constexpr int seeds = 4;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      const std::string outcome = outcome_of(bug, seed);
      outcomes += "[" + outcome + "] ";
      if (expected.empty() ? !outcome.empty() : outcome.find(expected) != std::string::npos) ++seen;
    }
    INFO(bug.name << ": " << outcomes);
    if (shown != nullptr) WARN(bug.name << ": " << outcomes);
    if (by_luck)
      CHECK(seen >= 1);
    else
      CHECK(seen == (expected.empty() ? 0 : seeds));
  }
}
}  // namespace

TEST_CASE("seeded bugs are seen, and controls are not: the order within a block") {
  check_that_all_are_seen(seeded_programs::order_within_a_block());
}
TEST_CASE("seeded bugs are seen, and controls are not: memory") {
  check_that_all_are_seen(seeded_programs::memory());
}
TEST_CASE("seeded bugs are seen, and controls are not: the order between blocks") {
  check_that_all_are_seen(seeded_programs::order_between_blocks());
}
TEST_CASE("seeded bugs are seen, and controls are not: streams") {
  check_that_all_are_seen(seeded_programs::streams());
}
TEST_CASE("seeded bugs are seen, and controls are not: arguments and graphs") {
  check_that_all_are_seen(seeded_programs::arguments_and_graphs());
}
