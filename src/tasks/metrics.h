#pragma once
// From scores to what is reported of a task. The metrics of lm-evaluation-harness have its names and definitions; with
// ℓ the log-likelihoods of the choices of a document, and the lowest choice where several are equally likely:
//   acc               mean of 1[argmax ℓ = gold]; last word: mean of greedy; several right choices: mean of
//                     Σ_right e^ℓ / Σ e^ℓ
//   acc_norm          mean of 1[argmax ℓ / length = gold], length in code points
//   perplexity        exp(−mean ℓ), of last words
//   word_perplexity, byte_perplexity, bits_per_byte   exp(−Σℓ / Σ words), exp(−Σℓ / Σ bytes), −Σℓ / (Σ bytes · ln 2)
// The standard error of a mean of n values is s / √n with s over n − 1; that of a perplexity is its own times that of
// the mean of ℓ.
#include <optional>
#include <string>
#include <vector>

#include "tasks/task.h"

namespace strand {

struct Metric {
  std::string name;
  double value = 0;
  std::optional<double> standard_error;
  bool higher_is_better = true;
};

/// What moves smoothly where acc stays near chance, as for small models. Means over documents with one right answer.
struct GoldMeasures {
  double bits_per_byte = 0;           ///< −ℓ_gold / (bytes of the choice · ln 2)
  double probability = 0;             ///< e^ℓ_gold / Σ e^ℓ
  double normalized_probability = 0;  ///< the same with ℓ / length
  double margin = 0;                  ///< ℓ_gold − the largest ℓ of the other choices, in nats
};

struct DocumentResult {
  std::vector<TokenScore> scores;                      ///< of the requests
  std::vector<std::pair<std::string, double>> values;  ///< of each metric
};

struct TaskResult {
  std::string name, group;
  const Task* task = nullptr;
  std::vector<DocumentResult> documents;
  std::vector<Metric> metrics;
  std::optional<double> chance;    ///< acc of guessing: mean of 1 / choices, or of the share of right ones
  std::optional<double> majority;  ///< acc of always the same choice, the most frequent one
  std::optional<GoldMeasures> gold;
};

/// The score of tasks together, weighted by their documents.
struct GroupResult {
  std::string name;
  std::vector<std::string> tasks;
  size_t documents = 0;
  Metric acc;
  double chance = 0;
};

/// `scores` are those of the requests of all documents, in order.
TaskResult task_result(const Task& task, std::span<const TokenScore> scores);

/// The groups that the tasks belong to, and MMLU as a whole.
std::vector<GroupResult> group_results(const std::vector<TaskResult>& results);

}  // namespace strand
