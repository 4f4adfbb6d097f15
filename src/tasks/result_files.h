#pragma once
// Results as lm-evaluation-harness writes them, so that programs that read its files read these: results.json, and
// samples_TASK.jsonl with what was asked and answered in each document.
#include <string>
#include <vector>

#include "tasks/metrics.h"

namespace strand {

/// What a result belongs to, besides the tasks.
struct EvaluationSetting {
  std::string checkpoint;
  std::string precision;
  bool bos = false;        ///< whether texts began with it
  int64_t max_length = 0;  ///< tokens of a request at most
  int64_t cut = 0;         ///< requests whose contexts were longer
  size_t limit = 0;        ///< documents of a task at most; 0 = all
  double seconds = 0;
};

/// The contents of results.json: the harness's keys ("results" with "acc,none" and "acc_stderr,none", "groups",
/// "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", ...), and under
/// "strand" what it does not have: levels of guessing, and measures of the right answers.
nlohmann::ordered_json results_json(const std::vector<TaskResult>& results, const EvaluationSetting& setting);

/// The lines of samples_TASK.jsonl.
std::string samples_text(const TaskResult& result);

/// Writes both into `directory`, which is made when it is missing: the samples of each task, and results.json last.
void write_results(const std::vector<TaskResult>& results, const EvaluationSetting& setting,
                   const std::string& directory);

}  // namespace strand
