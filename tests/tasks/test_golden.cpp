// Every prompt of whole benchmarks, and the accuracies of a scorer without a model, against what lm-evaluation-harness
// 0.4.13 made of the same files. The files are those of data_tools/fetch_tasks.sh; where they are not there, the test
// is skipped and says so, and test_tasks.cpp compares a small sample.
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "pseudo_scorer.h"
#include "tasks/evaluate.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Golden {
  const char* task;
  const char* folder;
  size_t requests;
  const char* hash;
  double acc, acc_norm;  ///< acc_norm 0 = the task has none
};

const Golden goldens[] = {
    {"arc_easy", "", 9501, "a0d986dab80ede8254c50154c99428ad", 0.24831649831649832, 0.24831649831649832},
    {"arc_challenge", "", 4687, "5b8437c8d8aaa05e112d6a7f9a20eab1", 0.25341296928327645, 0.25597269624573377},
    {"arc_easy", "/validation", 2281, "752ee60e31623668f43832f743e793a4", 0.24385964912280703, 0.23333333333333334},
    {"arc_challenge", "/validation", 1194, "d8d72a8b9c3f92db1e4398ad938b8c64", 0.26755852842809363,
     0.27759197324414714},
    {"hellaswag", "", 40168, "85cd96b5ac282cb8e270427c5b55050d", 0.2502489543915555, 0.24805815574586737},
    {"piqa", "", 3676, "bb68e85ffbcb6953a46a6cd2cd3261d0", 0.49510337323177367, 0.4912948857453754},
    {"boolq", "", 6540, "8bef823d066240aec53bbd1d430e9422", 0.4987767584097859, 0}};

std::string directory() {
  const char* set = std::getenv("STRAND_TEST_TASK_DATA");
  return set != nullptr ? set : "";
}

/// Prints why and returns true where there are no files.
bool skipped() {
  if (std::filesystem::is_directory(directory())) return false;
  std::puts(
      "SKIPPED: give -DSTRAND_TEST_TASK_DATA=DIRECTORY, one that data_tools/fetch_tasks.sh made, to compare whole "
      "benchmarks with lm-evaluation-harness");
  return true;
}
}  // namespace

TEST_CASE("prompts and accuracies of whole benchmarks are the harness's") {
  if (skipped()) return;
  for (const Golden& golden : goldens) {
    INFO(golden.task << golden.folder);
    const std::vector<Task> tasks = load_tasks({golden.task}, directory() + golden.folder, 0);
    const std::vector<TextRequest> requests = requests_of(tasks);
    CHECK(requests.size() == golden.requests);
    CHECK(prompt_hash(requests) == golden.hash);
    PseudoScorer scorer;
    const std::vector<TaskResult> results = evaluate_tasks(tasks, scorer);
    CHECK(results[0].metrics[0].value == golden.acc);
    if (golden.acc_norm > 0) CHECK(results[0].metrics[1].value == golden.acc_norm);
  }
}

TEST_CASE("prompts and accuracy of MMLU are the harness's") {
  if (skipped()) return;
  const std::vector<Task> tasks = load_tasks({"mmlu"}, directory(), 0);
  CHECK(tasks.size() == 57);
  const std::vector<TextRequest> requests = requests_of(tasks);
  CHECK(requests.size() == 56168);
  CHECK(prompt_hash(requests) == "7cfc09155630178a6ec026f17016e03a");
  PseudoScorer scorer;
  const std::vector<GroupResult> groups = group_results(evaluate_tasks(tasks, scorer));
  REQUIRE(groups.size() == 5);
  CHECK(groups[0].name == "mmlu");
  CHECK(groups[0].documents == 14042);
  CHECK(groups[0].acc.value == 0.24376869391824527);
}
