// strand eval CHECKPOINT --data PREFIX: cross-entropy and perplexity on token files; or --tasks: scores on benchmarks.
#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/model_arguments.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/task_evaluation.h"
#include "cli/text_arguments.h"
#include "core/error.h"
#include "core/log.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "data/text_bytes.h"
#include "data/tokenizer_record.h"
#include "kernels/staging.h"
#include "train/console.h"
#include "train/data_feed.h"

namespace strand::cli {

namespace {
constexpr int64_t max_batches = 1'000'000'000;

struct Arguments {
  ModelArguments model;
  std::string data;
  std::string format = "auto";
  int64_t batches = 0;
  int64_t batch_size = 8;
  std::string logits;
  bool json = false;
  TaskArguments tasks;
};

/// Evaluates as StepRunner does, and writes what the model saw and said: `tokens` [N, S] i32, `logits` [N, S, V] f32.
StepTerms evaluate_to_file(Session& session, StepRunner& runner, const StepData& data, const Objective& objective,
                           const std::string& path) {
  std::vector<float> logits;
  const StepTerms terms = runner.evaluate_with_logits(data, objective, [&](const Tensor& device) {
    for (const double x : download_values(session.ops(), device)) logits.push_back(static_cast<float>(x));
  });
  std::vector<int32_t> tokens = data.inputs;
  const int64_t sequences = data.sequences();
  const std::vector<NamedTensor> out = {
      host_tensor("tokens", {tokens.data(), DType::i32, {sequences, data.tokens}}),
      host_tensor("logits", {logits.data(), DType::f32, {sequences, data.tokens, session.config().model.vocab_size}})};
  write_safetensors(path, out);
  return terms;
}

/// None where the model has no tokenizer, which alone knows how many bytes tokens stand for.
std::optional<double> bits_a_byte(OpenModel& model, const StepData& data, double cross_entropy) {
  if (model.checkpoint().tokenizer().empty()) return std::nullopt;
  const int64_t bytes = text_bytes(data.targets, text_bytes_by_id(model.tokenizer()));
  if (bytes == 0) return std::nullopt;
  return bits_per_byte(cross_entropy, data.valid_targets(), bytes);
}

void evaluate_token_files(const Arguments& a) {
  std::optional<PlaceLock> lock;
  if (!a.logits.empty()) lock.emplace(lock_output(a.logits, "eval"));
  OpenModel model(a.model, a.batch_size);
  Config config = model.config();
  config.train.micro_batch_size = a.batch_size;
  const DataFeed feed({{.path = a.data, .format = a.format}}, config);
  for (const std::string& remark : check_tokenizers(feed.files(), model.tokenizer_if_any())) log_warning(remark);
  const StepData data = feed.validation(a.batches * config.train.micro_batch_size, config.train.micro_batch_size, 0, 1);
  StepRunner runner(model.session());
  const Objective objective{.losses = config.losses};
  const StepTerms terms = a.logits.empty() ? runner.evaluate(data, objective)
                                           : evaluate_to_file(model.session(), runner, data, objective, a.logits);
  const int64_t tokens = data.sequences() * data.tokens;
  const std::optional<double> bits = bits_a_byte(model, data, terms[Term::ce]);
  const double worst = worst_expert_load(runner.evaluation_counts());
  if (a.json) {
    nlohmann::ordered_json out = {{"checkpoint", model.checkpoint().path()},
                                  {"data", a.data},
                                  {"tokens", tokens},
                                  {"perplexity", std::exp(terms[Term::ce])},
                                  {"bits_per_byte", bits ? nlohmann::ordered_json(*bits) : nullptr},
                                  {"loss", terms.loss}};
    terms.for_each_measured([&](const char* name, double value) { out[name] = value; });
    out["worst_expert_load"] = worst;
    print_out("{}\n", out.dump(2));
    return;
  }
  print_out("{} on {}: {} tokens in windows of {}\n", model.checkpoint().path(), a.data, tokens, data.tokens);
  print_out("perplexity {:.4f}   cross-entropy {}{}\n", std::exp(terms[Term::ce]), fixed_text(terms[Term::ce], 6),
            bits ? "   bits per byte " + fixed_text(*bits, 4) : "");
  print_out("unweighted terms:");
  for (const TermRow& row : term_table)
    if (row.term != Term::ce) print_out("  {} {:.6g}", row.name, terms[row.term]);
  print_out("\nweighted sum {}   busiest expert {:.2f}x the mean load\n", fixed_text(terms.loss, 6), worst);
}

void run(const Arguments& a, Processes& processes) {
  if (!a.tasks.tasks.empty())
    return evaluate_on_tasks(a.model, a.tasks, a.json ? ResultFormat::json : ResultFormat::table, processes);
  if (a.data.empty()) throw UsageError("eval needs --data PREFIX (token files) or --tasks TASKS (benchmarks)");
  require(processes.size() == 1, "strand eval --data is one process; start it without a launcher of several");
  evaluate_token_files(a);
}
}  // namespace

void add_eval_command(CLI::App& app, Processes& processes) {
  CLI::App* command = app.add_subcommand(
      "eval", "Cross-entropy, perplexity and loss terms of a model on token files, or its scores on benchmarks");
  command->footer("Example: strand eval runs/quickstart --data data/quickstart/val");
  const auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  std::vector<CLI::Option*> of_token_files = {
      command->add_option("--data", a->data, "Token files: a Megatron prefix, or a .bin")->type_name("PREFIX")};
  add_token_format(*command, a->format, "Format of the token files (default auto)");
  of_token_files.push_back(add_number(
      *command, "--batches", a->batches, int64_t{0}, max_batches,
      "Batches at most, spread evenly over the data; 0 = all of the data (default). With --batch-size a run's "
      "global_batch_size and --batches its eval_batches: the windows that its validation takes"));
  of_token_files.push_back(add_number(*command, "--batch-size", a->batch_size, int64_t{1}, max_batch_size,
                                      "Sequences in a batch (default 8)"));
  of_token_files.push_back(
      command->add_option("--logits", a->logits, "Also write tokens and logits to this safetensors file")
          ->type_name("FILE"));
  CLI::Option* tasks = add_task_arguments(*command, a->tasks);
  for (CLI::Option* option : of_token_files) option->excludes(tasks);
  command->add_flag("--json", a->json, "Print JSON");
  command->callback([a, &processes] { run(*a, processes); });
}

}  // namespace strand::cli
