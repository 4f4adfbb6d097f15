// strand score CHECKPOINT PAIRS: how likely a model finds continuations of contexts, or whole texts.
#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/place_locks.h"
#include "cli/scoring_arguments.h"
#include "cli/standard_input.h"
#include "core/file_io.h"
#include "core/standard_streams.h"
#include "tasks/pairs.h"

namespace strand::cli {

namespace {
struct Arguments {
  ModelArguments model;
  ScoringArguments scoring;
  std::string pairs;
  std::string out;
};

std::string lines_of(const std::vector<TextRequest>& requests, const std::vector<TokenScore>& scores) {
  std::string lines;
  for (size_t i = 0; i < requests.size(); ++i) {
    nlohmann::ordered_json line = {{"log_likelihood", scores[i].log_likelihood}};
    if (requests[i].likelihood == Likelihood::of_continuation) line["greedy"] = scores[i].greedy;
    lines += line.dump() + "\n";
  }
  return lines;
}

void run(const Arguments& a, Processes& processes) {
  require_input_of_all(a.pairs, processes);
  std::optional<PlaceLock> lock;
  if (!a.out.empty() && processes.rank() == 0) lock.emplace(lock_output(a.out, "score"));
  const std::vector<TextRequest> requests = read_pairs(input_path(a.pairs));
  ScoringModel model(a.model, a.scoring, processes);
  const std::vector<TokenScore> scores = model.score(requests);
  if (!model.speaks()) return;
  const std::string lines = lines_of(requests, scores);
  if (a.out.empty())
    write_output(lines);
  else
    write_file_atomically(a.out, lines);
}
}  // namespace

void add_score_command(CLI::App& app, Processes& processes) {
  CLI::App* command =
      app.add_subcommand("score", "Log-likelihoods of given continuations of given contexts, or of whole texts");
  command->footer(
      "Example: strand score runs/quickstart - <<<'{\"context\": \"The meaning of the\", \"continuation\": \" "
      "word\"}'");
  const auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  command
      ->add_option("PAIRS", a->pairs,
                   "A JSON object a line, {\"context\": ..., \"continuation\": ...} or {\"text\": ...}; plain, .gz or "
                   ".zst; - is standard input")
      ->type_name("")
      ->required();
  command
      ->add_option("--out", a->out,
                   "Write the result to FILE: {\"log_likelihood\": ..., \"greedy\": ...} for each line (default: "
                   "standard output)")
      ->type_name("FILE");
  add_scoring_arguments(*command, a->scoring);
  command->callback([a, &processes] { run(*a, processes); });
}

}  // namespace strand::cli
