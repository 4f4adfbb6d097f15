#pragma once
// A small model on any backend, with everything that goes in and comes out as doubles on the host.
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "train/step.h"
#include "train/training_plan.h"

namespace strand::test {

using Values = std::vector<double>;
using NamedValues = std::map<std::string, Values>;

/// V 17, D 10, H 4, G 2, A 6 (so H A is 24 and G A is 12), L 2, E 5, K 2, F 7: small enough for finite differences; no
/// matrix is square, and no two widths that could be mixed up are equal. Every loss term has a weight, so memory
/// suffices for any objective.
Config tiny_config(Precision precision);
/// Turns attention into latent attention of n 4, p 6, v 5, c 7; `q_latent` is the width of the queries' latent, or 0.
void use_latent_attention(Config& config, int64_t q_latent);
/// YaRN whose three kinds of frequencies (they stay, are divided, or lie between) all occur in 6 rotated dimensions,
/// and whose factor is felt in texts of a few tokens.
void use_yarn(Config& config);
/// The objective of a config; one term of it alone, with weight 1, while the values of all are measured.
Objective whole_objective(const Config& config);
Objective only(const Config& config, Term term);
/// tiny_config with every kind of layer and of term: L 3, of which the first is dense and 9 wide, E 8, K 3, a shared
/// expert, a selection bias, and the weight 0.1 for every term.
Config every_part_config(Precision precision);

/// Random tokens and targets, a pure function of the seed; no target is ignored.
StepData random_batch(const Config& config, int64_t sequences, int64_t tokens, uint64_t seed);
/// The same sequences, cut into other micro-steps.
StepData cut(StepData data, std::vector<int64_t> micro_batches);
/// Sequences [begin, end) as a step of one micro-step.
StepData sequences_of(const StepData& data, int64_t begin, int64_t end);

/// What the router chose, anywhere in a step: the points where the objective is not smooth.
struct Choices {
  Values selected;  ///< experts, all micro-steps and layers
  Values coupled;   ///< the top-K sets of CP
  bool operator==(const Choices&) const = default;
};

class TestModel {
 public:
  /// `sequences`: the largest micro-batch.
  TestModel(Ops& ops, const Config& config, int64_t sequences, int64_t tokens);

  /// Weights of order one (so that every path matters) and selection biases, a function of (seed, name, i), rounded to
  /// float: the same in every precision.
  void randomize(uint64_t seed);
  std::vector<std::string> names() const;
  Values weight(const std::string& name);
  void set_weight(const std::string& name, const Values& values);
  NamedValues weights();
  NamedValues gradients();
  Shape shape_of(const std::string& name) const;

  StepTerms accumulate(const StepData& data, const Objective& objective, int64_t index = 0) {
    return runner.accumulate(data, objective, index);
  }
  Choices choices(const StepData& data);
  /// p of MoE layer `layer` after the last forward of one micro-step.
  Values probabilities(int64_t layer);
  Values selected(int64_t layer);

  ProcessGrid self;
  Session session;
  StepRunner runner;

 private:
  struct Place {
    const Parameter* parameter;
    const LogicalTensor* part;
  };
  Place find(const std::string& name) const;
};

double norm(const Values& x);
double dot(const Values& x, const Values& y);
double cosine(const Values& x, const Values& y);
/// Largest difference over the largest magnitude of `want`; where that is 0, the largest magnitude of `got`.
double relative_error(const Values& got, const Values& want);
/// The largest relative error of all tensors, which must have the same names.
double relative_error(const NamedValues& got, const NamedValues& want);

}  // namespace strand::test
