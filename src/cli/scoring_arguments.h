#pragma once
// The options of commands that score texts (`score`, `eval --tasks`), and the scorer that they make of a model.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/model_arguments.h"
#include "tasks/model_scorer.h"

namespace strand::cli {

struct ScoringArguments {
  std::string bos = "auto";
  int64_t context = 0;  ///< 0 = data.sequence_length of the model
  int64_t batch_tokens = 4096;
};

/// Registers --bos, --context and --batch-tokens, and returns them. `arguments` outlives the parse.
std::vector<CLI::Option*> add_scoring_arguments(CLI::App& command, ScoringArguments& arguments);

/// A model that scores, in each process of a run, with progress on standard error of the first one.
class ScoringModel {
 public:
  /// Opens everything but the session, whose size follows from the requests.
  ScoringModel(const ModelArguments& model, const ScoringArguments& arguments, Processes& processes);

  OpenModel& model() { return model_; }
  bool speaks() const { return processes_.rank() == 0; }
  BeginText begin() const { return begin_; }
  int64_t max_length() const { return max_length_; }
  /// Scores, and warns of contexts that were cut. All processes call it, and end together when one of them fails.
  std::vector<TokenScore> score(std::span<const TextRequest> requests);
  Scorer& scorer() { return forwarding_; }
  int64_t cut() const { return scorer_.cut(); }

 private:
  /// The scorer that is handed out, so that all goes through score().
  struct Forwarding final : Scorer {
    explicit Forwarding(ScoringModel& to) : model(to) {}
    std::vector<TokenScore> score(std::span<const TextRequest> requests) override { return model.score(requests); }
    ScoringModel& model;
  };

  Processes& processes_;
  std::unique_ptr<ProcessGrid> grid_;
  OpenModel model_;
  BeginText begin_;
  int64_t max_length_;
  RequestEncoder encoder_;
  ModelScorer scorer_;
  Forwarding forwarding_;
};

}  // namespace strand::cli
