#include "tasks/evaluate.h"

#include <numeric>

namespace strand {

std::vector<Task> load_tasks(const std::vector<std::string>& names, const std::string& directory, size_t limit) {
  std::vector<Task> tasks;
  for (const std::string& name : names)
    for (Task& task : load_task(name, directory, limit)) tasks.push_back(std::move(task));
  return tasks;
}

std::vector<TextRequest> requests_of(const std::vector<Task>& tasks) {
  std::vector<TextRequest> requests;
  for (const Task& task : tasks)
    for (const TaskDocument& document : task.documents)
      requests.insert(requests.end(), document.requests.begin(), document.requests.end());
  return requests;
}

std::vector<TaskResult> evaluate_tasks(const std::vector<Task>& tasks, Scorer& scorer) {
  const std::vector<TokenScore> scores = scorer.score(requests_of(tasks));
  std::span<const TokenScore> rest = scores;
  std::vector<TaskResult> results;
  for (const Task& task : tasks) {
    size_t count = 0;
    for (const TaskDocument& document : task.documents) count += document.requests.size();
    results.push_back(task_result(task, rest.subspan(0, count)));
    rest = rest.subspan(count);
  }
  return results;
}

}  // namespace strand
