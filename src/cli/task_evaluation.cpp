#include "cli/task_evaluation.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "cli/choice_option.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "config/schema.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "report/table.h"
#include "tasks/evaluate.h"
#include "tasks/result_files.h"

namespace strand::cli {

namespace {
constexpr int64_t max_limit = 1'000'000'000;

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const TaskDefinition& task : task_definitions()) names.emplace_back(task.name);
  return names;
}

std::vector<std::string> chosen_tasks(const std::string& list) {
  const std::vector<std::string> known = task_names();
  std::vector<std::string> chosen;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = known[parse_choice("--tasks", list.substr(begin, end - begin), known)];
    if (std::find(chosen.begin(), chosen.end(), name) != chosen.end())
      throw UsageError(fmt::format("--tasks names {} twice", name));
    chosen.push_back(name);
    begin = end + 1;
  }
  return chosen;
}

std::string number(const std::optional<double>& value) {
  return value ? fixed_text(*value, 4) : "";
}

void add_rows(TextTable& table, const TaskResult& result) {
  for (size_t m = 0; m < result.metrics.size(); ++m) {
    const Metric& metric = result.metrics[m];
    std::vector<std::string> cells = {m == 0 ? result.name : "",
                                      m == 0 ? grouped_digits(static_cast<int64_t>(result.documents.size())) : "",
                                      metric.name, number(metric.value), number(metric.standard_error)};
    const bool levels = m == 0;
    cells.push_back(levels ? number(result.chance) : "");
    cells.push_back(levels ? number(result.majority) : "");
    cells.push_back(levels && result.gold ? number(result.gold->bits_per_byte) : "");
    cells.push_back(levels && result.gold ? number(result.gold->probability) : "");
    cells.push_back(levels && result.gold ? signed_text(result.gold->margin, 4) : "");
    table.add(std::move(cells));
  }
}

void add_row(TextTable& table, const GroupResult& group) {
  table.add({group.name, grouped_digits(static_cast<int64_t>(group.documents)), group.acc.name, number(group.acc.value),
             number(group.acc.standard_error), number(group.chance), "", "", "", ""});
}

/// The subjects of MMLU are in results.json; here are its groups.
std::string table_of(const std::vector<TaskResult>& results) {
  TextTable table(
      {"task", "documents", "metric", "value", "stderr", "chance", "majority", "gold bits/byte", "p(gold)", "margin"});
  for (const TaskResult& result : results)
    if (result.group.empty()) add_rows(table, result);
  for (const GroupResult& group : group_results(results)) add_row(table, group);
  return table.text();
}

std::string setting_text(const EvaluationSetting& setting) {
  return fmt::format("{}, {}: zero-shot, texts {} BOS, {} tokens at most{}\n", setting.checkpoint, setting.precision,
                     setting.bos ? "begin with" : "without", setting.max_length,
                     setting.limit > 0 ? fmt::format(", the first {} documents of each task", setting.limit) : "");
}
}  // namespace

CLI::Option* add_task_arguments(CLI::App& command, TaskArguments& a) {
  CLI::Option* tasks =
      command
          .add_option("--tasks", a.tasks,
                      fmt::format("Benchmarks, with commas between them: {}", fmt::join(task_names(), ", ")))
          ->type_name("TASKS");
  std::vector<CLI::Option*> others = {
      command.add_option("--task-data", a.directory, "The directory with their data (data_tools/fetch_tasks.sh)")
          ->type_name("DIR"),
      add_number(command, "--limit", a.limit, int64_t{1}, max_limit, "The first documents of each task alone"),
      command
          .add_option("--out", a.out,
                      "Also write results.json and samples_TASK.jsonl, as lm-evaluation-harness does, to DIR")
          ->type_name("DIR")};
  for (CLI::Option* option : add_scoring_arguments(command, a.scoring)) others.push_back(option);
  for (CLI::Option* option : others) option->needs(tasks);
  return tasks;
}

void evaluate_on_tasks(const ModelArguments& model_arguments, const TaskArguments& a, ResultFormat format,
                       Processes& processes) {
  const std::vector<std::string> names = chosen_tasks(a.tasks);
  if (a.directory.empty()) throw UsageError("--tasks needs --task-data DIR, with the data of the benchmarks");
  const double start = now();
  std::optional<PlaceLock> lock;
  if (!a.out.empty() && processes.rank() == 0)
    lock.emplace(PlaceLock::of_directory(a.out, {.command = "strand eval", .otherwise = "choose another place"}));
  const std::vector<Task> tasks = load_tasks(names, a.directory, static_cast<size_t>(a.limit));
  ScoringModel model(model_arguments, a.scoring, processes);
  const std::vector<TaskResult> results = evaluate_tasks(tasks, model.scorer());
  if (!model.speaks()) return;
  const EvaluationSetting setting{.checkpoint = model.model().checkpoint().path(),
                                  .precision = to_string(model.model().config().run.precision),
                                  .bos = model.begin() == BeginText::with_bos,
                                  .max_length = model.max_length(),
                                  .cut = model.cut(),
                                  .limit = static_cast<size_t>(a.limit),
                                  .seconds = now() - start};
  if (!a.out.empty()) write_results(results, setting, a.out);
  if (format == ResultFormat::json)
    print_out("{}\n", results_json(results, setting).dump(2));
  else
    print_out("{}{}", setting_text(setting), table_of(results));
}

}  // namespace strand::cli
