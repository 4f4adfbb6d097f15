// Leaving out SP and CP altogether is the same training step as giving them the weight 0: only their values are gone.
#include "model/backend.h"
#include "report/term_switch.h"
#include "small_config.h"
#include "tests/catch.h"
#include "train/step.h"

using namespace strand;

namespace {
struct Outcome {
  StepTerms terms;
  double norm = 0;
};

Outcome first_step(const Config& config, Computed specialization, Computed coupling) {
  RunConfig run;
  run.device = DeviceKind::reference;
  const std::unique_ptr<Device> backend_device = make_device(run);
  const std::unique_ptr<Ops> backend = backend_device->make_ops();
  TermSwitch ops(*backend);
  ops.specialization(specialization);
  ops.coupling(coupling);
  ProcessGrid self;
  Session session(ops, self, config, {Purpose::training, 2, 8});
  session.parameters().initialize(ops, 1);
  StepRunner runner(session);
  StepData data{.tokens = 8, .micro_batches = {2, 2}};
  for (int32_t i = 0; i < 32; ++i) {
    data.inputs.push_back((i * 7) % 16);
    data.targets.push_back((i * 5 + 3) % 16);
  }
  const StepTerms terms = runner.accumulate(data, {.losses = config.losses}, 0);
  return {terms, runner.gradient_norm()};
}
}  // namespace

TEST_CASE("terms left out are 0 and all else is unchanged") {
  Config config = strand_test::small_config();
  config.run.precision = Precision::fp64;
  config.losses.cp_paths = GENERATE(CouplingPaths::token, CouplingPaths::batch);
  config.losses.sp_weight = 0;
  config.losses.cp_weight = 0;
  const Outcome with = first_step(config, Computed::yes, Computed::yes);
  REQUIRE(with.terms[Term::sp] > 0);
  REQUIRE(with.terms[Term::cp] < 0);

  const Outcome without = first_step(config, Computed::no, Computed::no);
  CHECK(without.terms[Term::sp] == 0);
  CHECK(without.terms[Term::cp] == 0);
  CHECK(without.norm == with.norm);
  for (const Term term : {Term::ce, Term::lb, Term::z, Term::o, Term::v})
    CHECK(without.terms[term] == with.terms[term]);

  const Outcome only_sp = first_step(config, Computed::yes, Computed::no);
  CHECK(only_sp.terms[Term::sp] == with.terms[Term::sp]);
  CHECK(only_sp.terms[Term::cp] == 0);
}
