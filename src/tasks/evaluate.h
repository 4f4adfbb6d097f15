#pragma once
// Tasks, from their files to their results.
#include "tasks/metrics.h"

namespace strand {

/// The documents of the named tasks, each from its file in `directory`; of each the first `limit`, 0 = all. Throws
/// Error.
std::vector<Task> load_tasks(const std::vector<std::string>& names, const std::string& directory, size_t limit);

/// All requests of all tasks, in order.
std::vector<TextRequest> requests_of(const std::vector<Task>& tasks);

/// Scores all tasks at once, so that the requests of different tasks share passes of the model. `tasks` outlives what
/// is returned.
std::vector<TaskResult> evaluate_tasks(const std::vector<Task>& tasks, Scorer& scorer);

}  // namespace strand
