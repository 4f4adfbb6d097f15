#include "tasks/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "tasks/text_rules.h"

namespace strand {

namespace {
using Values = std::vector<double>;

size_t place_of_largest(const Values& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

/// e^v / Σ e^v
Values shares(Values values) {
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (double& v : values) sum += v = std::exp(v - largest);
  for (double& v : values) v /= sum;
  return values;
}

double mean(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// None for a single value.
std::optional<double> standard_error(const Values& values) {
  if (values.size() < 2) return std::nullopt;
  const double middle = mean(values), n = static_cast<double>(values.size());
  double squares = 0;
  for (const double v : values) squares += (v - middle) * (v - middle);
  return std::sqrt(squares / (n - 1)) / std::sqrt(n);
}

/// The log-likelihoods of a document's requests.
Values likelihoods(const DocumentResult& document) {
  Values all;
  for (const TokenScore& score : document.scores) all.push_back(score.log_likelihood);
  return all;
}

Values normalized(Values values, const TaskDocument& document) {
  for (size_t c = 0; c < values.size(); ++c) values[c] /= static_cast<double>(code_points(document.choices[c]));
  return values;
}

/// The mean of values that are computed of each document, as a metric of the task and a value of the document.
void add_mean(TaskResult& result, const std::string& name,
              const std::function<double(const TaskDocument&, const DocumentResult&)>& value) {
  Values all;
  for (size_t i = 0; i < result.documents.size(); ++i) {
    all.push_back(value(result.task->documents[i], result.documents[i]));
    result.documents[i].values.emplace_back(name, all.back());
  }
  result.metrics.push_back({name, mean(all), standard_error(all), true});
}

void add_choice_metrics(TaskResult& result) {
  add_mean(result, "acc", [](const TaskDocument& document, const DocumentResult& got) {
    return place_of_largest(likelihoods(got)) == document.gold ? 1.0 : 0.0;
  });
  if (result.task->definition->normalized == Normalized::no) return;
  add_mean(result, "acc_norm", [](const TaskDocument& document, const DocumentResult& got) {
    return place_of_largest(normalized(likelihoods(got), document)) == document.gold ? 1.0 : 0.0;
  });
}

double right_share(const TaskDocument& document, const DocumentResult& got) {
  const Values share = shares(likelihoods(got));
  double right = 0;
  for (size_t c = 0; c < share.size(); ++c)
    if (document.right[c] != 0) right += share[c];
  return right;
}

void add_last_word_metrics(TaskResult& result) {
  Values all;
  for (DocumentResult& document : result.documents) {
    all.push_back(document.scores[0].log_likelihood);
    document.values.emplace_back("perplexity", all.back());
  }
  const double perplexity = std::exp(-mean(all));
  std::optional<double> error = standard_error(all);
  if (error) *error *= perplexity;
  result.metrics.push_back({"perplexity", perplexity, error, false});
  add_mean(result, "acc",
           [](const TaskDocument&, const DocumentResult& got) { return got.scores[0].greedy ? 1.0 : 0.0; });
}

void add_text_metrics(TaskResult& result) {
  double likelihood = 0, words = 0, bytes = 0;
  for (size_t i = 0; i < result.documents.size(); ++i) {
    likelihood += result.documents[i].scores[0].log_likelihood;
    words += static_cast<double>(result.task->documents[i].words);
    bytes += static_cast<double>(result.task->documents[i].bytes);
  }
  result.metrics.push_back({"word_perplexity", std::exp(-likelihood / words), std::nullopt, false});
  result.metrics.push_back({"byte_perplexity", std::exp(-likelihood / bytes), std::nullopt, false});
  result.metrics.push_back({"bits_per_byte", -likelihood / (bytes * std::numbers::ln2), std::nullopt, false});
}

GoldMeasures gold_measures(const TaskResult& result) {
  GoldMeasures sum;
  for (size_t i = 0; i < result.documents.size(); ++i) {
    const TaskDocument& document = result.task->documents[i];
    Values all = likelihoods(result.documents[i]);
    const double gold = all[document.gold];
    sum.bits_per_byte += -gold / (static_cast<double>(document.choices[document.gold].size()) * std::numbers::ln2);
    sum.probability += shares(all)[document.gold];
    sum.normalized_probability += shares(normalized(all, document))[document.gold];
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(document.gold));
    if (!all.empty()) sum.margin += gold - *std::max_element(all.begin(), all.end());
  }
  const auto n = static_cast<double>(result.documents.size());
  return {sum.bits_per_byte / n, sum.probability / n, sum.normalized_probability / n, sum.margin / n};
}

/// What acc is without looking at the question.
void add_levels(TaskResult& result) {
  const std::vector<TaskDocument>& documents = result.task->documents;
  Values guessing;
  std::map<size_t, size_t> counts;
  for (const TaskDocument& document : documents) {
    const auto choices = static_cast<double>(document.requests.size());
    const auto right = static_cast<double>(std::count(document.right.begin(), document.right.end(), 1));
    guessing.push_back((document.right.empty() ? 1.0 : right) / choices);
    ++counts[document.gold];
  }
  result.chance = mean(guessing);
  if (result.task->definition->kind != TaskKind::multiple_choice) return;
  size_t most = 0;
  for (const auto& [choice, count] : counts) most = std::max(most, count);
  result.majority = static_cast<double>(most) / static_cast<double>(documents.size());
}

GroupResult group_of(const std::string& name, const std::vector<const TaskResult*>& members) {
  GroupResult group{.name = name};
  double sum = 0, chance = 0, squares = 0, documents = 0;
  for (const TaskResult* member : members) {
    const Metric& acc = member->metrics[0];
    const auto n = static_cast<double>(member->documents.size());
    group.tasks.push_back(member->name);
    group.documents += member->documents.size();
    documents += n;
    sum += n * acc.value;
    chance += n * *member->chance;
    squares += (n - 1) * n * std::pow(acc.standard_error.value_or(0), 2);
  }
  const double freedom = documents - static_cast<double>(members.size());
  group.acc = {"acc", sum / documents, std::nullopt, true};
  if (freedom > 0) group.acc.standard_error = std::sqrt(squares / freedom / documents);
  group.chance = chance / documents;
  return group;
}
}  // namespace

TaskResult task_result(const Task& task, std::span<const TokenScore> scores) {
  TaskResult result{.name = task.name, .group = task.group, .task = &task};
  for (const TaskDocument& document : task.documents) {
    const std::span<const TokenScore> mine = scores.subspan(0, document.requests.size());
    result.documents.push_back({{mine.begin(), mine.end()}, {}});
    scores = scores.subspan(mine.size());
  }
  switch (task.definition->kind) {
    case TaskKind::multiple_choice:
      add_choice_metrics(result);
      add_levels(result);
      result.gold = gold_measures(result);
      break;
    case TaskKind::choice_mass:
      add_mean(result, "acc", right_share);
      add_levels(result);
      break;
    case TaskKind::last_word:
      add_last_word_metrics(result);
      break;
    case TaskKind::rolling:
      add_text_metrics(result);
      break;
  }
  return result;
}

std::vector<GroupResult> group_results(const std::vector<TaskResult>& results) {
  std::map<std::string, std::vector<const TaskResult*>> members;
  for (const TaskResult& result : results) {
    if (result.group.empty()) continue;
    members[result.group].push_back(&result);
    members["mmlu"].push_back(&result);
  }
  std::vector<GroupResult> groups;
  for (const auto& [name, tasks] : members) groups.push_back(group_of(name, tasks));
  return groups;
}

}  // namespace strand
