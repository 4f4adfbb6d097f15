// Training leaves a report, and `strand report` makes one of any run, at once or while it goes on.
#include <fmt/core.h>

#include <chrono>
#include <fstream>
#include <regex>
#include <thread>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
std::string report_of(const std::string& run) {
  return bytes_of(workspace().run(run) / "report.html");
}
}  // namespace

TEST_CASE("a run ends with its report, unless it is told not to") {
  const Workspace& w = workspace();
  w.trained("told", {"--set", "train.steps=6", "--set", "train.eval_every=3"});
  const std::string page = report_of("told");
  CHECK_THAT(page, Contains("Finished: all 6 steps are done.") && Contains("validation cross-entropy"));
  w.trained("silent", {"--set", "train.steps=6", "--set", "run.report=false"});
  CHECK_FALSE(fs::exists(w.run("silent") / "report.html"));

  // The command makes the same page of the same files.
  fs::remove(w.run("told") / "report.html");
  const Outcome again = w.strand({"report", w.run("told").string()});
  INFO(again.err);
  CHECK(again.status == 0);
  const std::regex place("<code>[^<]*</code>");  // the directory as it was named
  CHECK(std::regex_replace(report_of("told"), place, "") == std::regex_replace(page, place, ""));
}

TEST_CASE("a run that stops for good tells in log and report where that was") {
  const Workspace& w = workspace();
  const Outcome bad = w.strand(w.train("diverged", {"--set", "optimizer.lr=1e30", "--set", "optimizer.clip_norm=0"}));
  CHECK(bad.status == 1);
  const auto rows = w.log("diverged");
  REQUIRE_FALSE(rows.empty());
  CHECK((rows.back()["loss"].is_null() || rows.back()["grad_norm"].is_null()));
  CHECK_THAT(report_of("diverged"), Contains(fmt::format("Stopped at step {} of", rows.back()["step"].get<int>())));
}

TEST_CASE("several runs make one page where --out says") {
  const Workspace& w = workspace();
  for (const char* seed : {"1", "2"})
    w.trained(std::string("two_s") + seed, {"--set", "train.steps=4", "--set", std::string("run.seed=") + seed});
  const Outcome made = w.strand({"report", "runs/two_s1", "runs/two_s2", "--out", "both.html"});
  INFO(made.err);
  CHECK(made.status == 0);
  CHECK_THAT(bytes_of(w.root() / "both.html"), Contains("Comparison of 2 runs of 1 kind"));
  const Outcome none = w.strand({"report", "runs/absent"});
  CHECK(none.status == 1);
  CHECK_THAT(none.err, Contains("runs/absent: no such directory"));
}

TEST_CASE("--watch writes the page anew as the log grows, and ends with the run") {
  const Workspace& w = workspace();
  w.trained("watched", {"--set", "train.steps=8"});
  const fs::path log = w.run("watched") / "log.jsonl", page = w.run("watched") / "report.html";
  const std::string whole = bytes_of(log);
  const size_t half = whole.find("{\"step\":5");
  REQUIRE(half != std::string::npos);
  std::ofstream(log, std::ios::trunc) << whole.substr(0, half);
  fs::remove(page);
  const Outcome watched =
      run_strand({"report", "runs/watched", "--watch", "--every", "1"}, w.root().string(), [&](pid_t) {
        while (!fs::exists(page)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        const std::string before = bytes_of(page);
        CHECK_THAT(before, Contains("At step 4 of 8") && Contains("http-equiv=\"refresh\" content=\"1\""));
        std::ofstream(log, std::ios::app) << whole.substr(half);
      });
  INFO(watched.err);
  CHECK(watched.status == 0);
  CHECK_THAT(bytes_of(page), Contains("Finished: all 8 steps are done.") && !Contains("http-equiv=\"refresh\""));
}
