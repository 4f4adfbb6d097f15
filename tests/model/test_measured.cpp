// Which terms a step measures, and that it prepares nothing for the others.
#include <numeric>

#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

Objective no_weights(const Config& config, TermSet asked) {
  Objective objective = Objective::only(config.losses, Term::ce);
  objective.asked = asked;
  return objective;
}

Config coupled_by(CouplingPaths paths) {
  Config config = tiny_config(Precision::fp64);
  config.losses.cp_paths = paths;
  return config;
}

TEST_CASE("A term with a weight is measured, and so is one that is asked for") {
  Objective objective{.losses = {.z_weight = 0.1, .cp_weight = 0.2}, .asked = {Term::sp}};
  CHECK(objective.measured() == TermSet{Term::ce, Term::z, Term::cp, Term::sp});
  objective.asked = terms_of_every_step();
  CHECK(objective.measured() == TermSet{Term::ce, Term::lb, Term::z, Term::v, Term::cp, Term::entropy});
  CHECK(Objective::only(objective.losses, Term::o).measured() == TermSet{Term::ce, Term::o});
}

TEST_CASE("A term that is measured alone has its value; the others are 0, and gradients are as ever") {
  ReferenceOps ops;
  const Config config = coupled_by(GENERATE(CouplingPaths::token, CouplingPaths::batch));
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const StepData data = random_batch(config, 2, 5, 1);
  const StepTerms every = model.accumulate(data, no_weights(config, TermSet::all()));
  const NamedValues gradients = model.gradients();
  for (const TermRow& asked : term_table) {
    INFO("asked for " << asked.name);
    const StepTerms got = model.accumulate(data, no_weights(config, {asked.term}));
    for (const TermRow& row : term_table) {
      INFO(row.name);
      CHECK(every[row.term] != 0);
      const bool measured = row.term == asked.term || row.term == Term::ce;
      CHECK(got.measured.contains(row.term) == measured);
      CHECK(got[row.term] == (measured ? every[row.term] : 0.0));
    }
    CHECK(got.loss == every[Term::ce]);
    CHECK(model.gradients() == gradients);
  }
}

TEST_CASE("What no measured term needs is not there") {
  ReferenceOps ops;
  struct LayerTerms {
    Routing routing;
    PairGrams grams;
  };
  const auto terms_of = [&](CouplingPaths paths, TermSet asked) {
    const Config config = coupled_by(paths);
    TestModel model(ops, config, 2, 5);
    model.randomize(1);
    model.accumulate(random_batch(config, 2, 5, 1), no_weights(config, asked));
    const Transformer& transformer = model.session.transformer();
    return LayerTerms{transformer.routing(0), transformer.pair_grams(0)};
  };
  const auto coupled = [](const LayerTerms& l) { return bool(l.routing.top_mass) || bool(l.routing.joint_mask); };
  for (const CouplingPaths paths : {CouplingPaths::token, CouplingPaths::batch}) {
    const LayerTerms none = terms_of(paths, {}), sp = terms_of(paths, {Term::sp});
    const LayerTerms cp = terms_of(paths, {Term::cp}), o = terms_of(paths, {Term::o});
    CHECK((!none.grams.z && !none.grams.y && !coupled(none)));
    CHECK((sp.grams.z && !sp.grams.y && !coupled(sp)));
    CHECK((!cp.grams.z && !cp.grams.y && coupled(cp)));
    CHECK((!o.grams.z && o.grams.y && !coupled(o)));
  }
}

TEST_CASE("An evaluation leaves gradients and the step's selections alone") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const StepData data = random_batch(config, 2, 5, 1), other = random_batch(config, 1, 5, 2);
  model.accumulate(data, whole_objective(config));
  const NamedValues gradients = model.gradients();
  const std::vector<std::vector<double>> counts = model.runner.expert_counts();
  const StepTerms terms = model.runner.evaluate(other, whole_objective(config));
  CHECK(model.gradients() == gradients);
  CHECK(model.runner.expert_counts() == counts);
  for (const std::vector<double>& layer : model.runner.evaluation_counts())
    CHECK(std::accumulate(layer.begin(), layer.end(), 0.0) == 5 * config.moe.top_k);
  CHECK(terms.value == model.accumulate(other, whole_objective(config)).value);
}

// What an evaluation computes and keeps follows from the values that are asked for, whatever the weights are: nothing
// is there for gradients (SP's of z, the outputs that O's needs).
TEST_CASE("An evaluation takes the same memory with weights and without") {
  const GridShape grid = GENERATE(GridShape{1, 1}, GridShape{2, 2});
  const auto bytes = [&](double weight) {
    Config config = tiny_config(Precision::fp32);
    config.moe.num_experts = 6;
    config.train.recompute = Recompute::none;
    for (const TermRow& row : term_table)
      if (row.weight != nullptr) config.losses.*row.weight = weight;
    return plan_session(config, {Purpose::inference, 2, 5}, {}, grid).bytes();
  };
  CHECK(bytes(0.5) == bytes(0));
}

}  // namespace
}  // namespace strand::test
