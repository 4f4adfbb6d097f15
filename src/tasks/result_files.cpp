#include "tasks/result_files.h"

#include <fmt/core.h>

#include <chrono>
#include <cmath>

#include "core/file_io.h"
#include "core/sha256.h"
#include "core/version.h"

namespace strand {

namespace {
using Json = nlohmann::ordered_json;

/// A number as Python's str() shows it in samples: the shortest text that gives the same number.
std::string number_text(double value) {
  return Json(value).dump();
}

const char* kind_name(TaskKind kind) {
  switch (kind) {
    case TaskKind::multiple_choice:
    case TaskKind::choice_mass:
      return "multiple_choice";
    case TaskKind::last_word:
      return "loglikelihood";
    case TaskKind::rolling:
      return "loglikelihood_rolling";
  }
  return "";
}

void put_metric(Json& into, const Metric& metric) {
  into[metric.name + ",none"] = metric.value;
  Json& error = into[metric.name + "_stderr,none"];
  if (metric.standard_error)
    error = *metric.standard_error;
  else
    error = "N/A";
}

Json levels_json(const TaskResult& result) {
  Json out = Json::object();
  if (result.chance) out["chance"] = *result.chance;
  if (result.majority) out["majority"] = *result.majority;
  if (result.gold) {
    out["gold_bits_per_byte"] = result.gold->bits_per_byte;
    out["gold_probability"] = result.gold->probability;
    out["gold_probability_normalized"] = result.gold->normalized_probability;
    out["gold_margin"] = result.gold->margin;
  }
  return out;
}

/// What the harness calls the target of a document.
Json target_of(const TaskDocument& document, TaskKind kind) {
  switch (kind) {
    case TaskKind::last_word:
    case TaskKind::rolling:
      return document.requests[0].continuation;
    default:
      return document.gold;
  }
}

Json arguments_of(const TaskDocument& document) {
  Json arguments = Json::object();
  for (size_t i = 0; i < document.requests.size(); ++i) {
    const TextRequest& request = document.requests[i];
    Json& one = arguments[fmt::format("gen_args_{}", i)];
    if (request.likelihood == Likelihood::of_text)
      one = {{"arg_0", request.continuation}};
    else
      one = {{"arg_0", request.context}, {"arg_1", request.continuation}};
  }
  return arguments;
}

Json sample(const TaskResult& result, size_t index) {
  const TaskDocument& document = result.task->documents[index];
  const DocumentResult& got = result.documents[index];
  const TaskKind kind = result.task->definition->kind;
  const Json target = target_of(document, kind);
  Json responses = Json::array(), filtered = Json::array();
  for (const TokenScore& score : got.scores) {
    const Json answer = kind == TaskKind::rolling
                            ? Json(number_text(score.log_likelihood))
                            : Json{number_text(score.log_likelihood), score.greedy ? "True" : "False"};
    responses.push_back(Json::array({answer}));
    filtered.push_back(answer);
  }
  Json metrics = Json::array();
  for (const Metric& metric : result.metrics) metrics.push_back(metric.name);
  const TextRequest& first = document.requests[0];
  const std::string prompt = first.likelihood == Likelihood::of_text ? first.continuation : first.context;
  Json out = {{"doc_id", index},
              {"doc", document.record},
              {"target", target},
              {"arguments", arguments_of(document)},
              {"resps", responses},
              {"filtered_resps", filtered},
              {"filter", "none"},
              {"metrics", metrics},
              {"doc_hash", sha256(document.record.dump(2))},
              {"prompt_hash", sha256(prompt)},
              {"target_hash", sha256(target.is_string() ? target.get<std::string>() : target.dump())}};
  for (const auto& [name, value] : got.values) out[name] = value;
  return out;
}

double seconds_since_1970() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

Json config_json(const EvaluationSetting& setting) {
  Json limit;
  if (setting.limit > 0) limit = setting.limit;
  return {{"model", "strand"},
          {"model_args",
           {{"checkpoint", setting.checkpoint},
            {"precision", setting.precision},
            {"add_bos_token", setting.bos},
            {"max_length", setting.max_length}}},
          {"limit", limit},
          {"requests_cut", setting.cut}};
}
}  // namespace

Json results_json(const std::vector<TaskResult>& results, const EvaluationSetting& setting) {
  const char* const tables[] = {"results",  "groups", "group_subtasks",   "configs",
                                "versions", "n-shot", "higher_is_better", "n-samples"};
  Json out;
  for (const char* table : tables) out[table] = Json::object();
  Json levels = Json::object();
  for (const TaskResult& result : results) {
    const TaskDefinition& definition = *result.task->definition;
    Json& row = out["results"][result.name];
    row["alias"] = result.name;
    for (const Metric& metric : result.metrics) {
      put_metric(row, metric);
      out["higher_is_better"][result.name][metric.name] = metric.higher_is_better;
    }
    out["configs"][result.name] = {{"task", result.name},
                                   {"output_type", kind_name(definition.kind)},
                                   {"num_fewshot", 0},
                                   {"metadata", {{"version", definition.version}}}};
    out["versions"][result.name] = definition.version;
    out["n-shot"][result.name] = 0;
    out["n-samples"][result.name] = {{"original", result.task->documents_in_file},
                                     {"effective", result.documents.size()}};
    levels[result.name] = levels_json(result);
  }
  for (const GroupResult& group : group_results(results)) {
    Json row = {{"alias", group.name}};
    put_metric(row, group.acc);
    out["results"][group.name] = out["groups"][group.name] = row;
    out["group_subtasks"][group.name] = group.tasks;
    out["higher_is_better"][group.name]["acc"] = true;
    levels[group.name] = {{"chance", group.chance}};
  }
  out["config"] = config_json(setting);
  out["date"] = seconds_since_1970();
  out["model_source"] = "strand";
  out["model_name"] = setting.checkpoint;
  out["total_evaluation_time_seconds"] = fmt::format("{}", setting.seconds);
  out["strand"] = {{"version", program_version()}, {"commit", program_commit()}, {"levels", levels}};
  return out;
}

std::string samples_text(const TaskResult& result) {
  std::string text;
  for (size_t i = 0; i < result.documents.size(); ++i) text += sample(result, i).dump() + "\n";
  return text;
}

void write_results(const std::vector<TaskResult>& results, const EvaluationSetting& setting,
                   const std::string& directory) {
  make_directories(directory);
  for (const TaskResult& result : results)
    write_file_atomically(fmt::format("{}/samples_{}.jsonl", directory, result.name), samples_text(result));
  write_file_atomically(directory + "/results.json", results_json(results, setting).dump(2) + "\n");
}

}  // namespace strand
