// Experts spread over ranks compute what one process computes, to the last loss term: ranks as threads
// (tests/parallel/thread_grid.h) against one process, and against reference files.
#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/model/counting_device.h"
#include "tests/model/harness.h"
#include "tests/parallel/thread_grid.h"
#include "tests/train/reference_files.h"
#include "train/logical_values.h"
#include "train/training_plan.h"
#include "train/verify.h"

namespace strand::test {
namespace {

struct Layout {
  int ranks = 1, expert_parallel = 1;
};
const std::vector<Layout> layouts = {{2, 2}, {4, 1}, {4, 2}, {4, 4}};
constexpr int64_t tokens = 6;
constexpr int64_t sequences = 4;  // in each of two micro-steps

/// Every term has a weight; one shared expert, one dense layer, a selection bias; no dimension is a multiple of 32.
Config every_term() {
  Config c = every_part_config(Precision::fp64);
  c.model.init_std = 0.4;
  return c;
}

struct Outcome {
  NamedValues gradients, trained;
  std::vector<StepTerms> terms;
  Values norms;
  std::vector<std::vector<double>> counts;
  int64_t expert_rows = 0;  ///< of all ranks
};

StepData whole_step(const Config& config, uint64_t index) {
  return cut(random_batch(config, 2 * sequences, tokens, index), {sequences, sequences});
}

/// Every token is the same one, so all of them choose the same experts.
StepData monotonous_step(const Config& config, uint64_t index) {
  StepData data = whole_step(config, index);
  data.inputs.assign(data.inputs.size(), 3);
  return data;
}

/// Three steps of AdamW from the initial weights.
template <auto make_backend>
Outcome train(const Config& config, Layout layout, Happens happens = Happens::at_wait,
              StepData (*data_of)(const Config&, uint64_t) = whole_step) {
  std::vector<Outcome> outcomes(size_t(layout.ranks));
  run_ranks(
      layout.ranks, layout.expert_parallel,
      [&](ProcessGrid& grid) {
        const std::unique_ptr<Ops> backend = make_backend();
        Ops& ops = *backend;
        Outcome& out = outcomes[size_t(grid.rank())];
        const SessionShape shape{Purpose::training, sequences / grid.ranks(), tokens};
        Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
        StepRunner runner(session);
        session.parameters().initialize(ops, 7);
        for (int64_t i = 0; i < 3; ++i) {
          const StepData data = part_of_rank(data_of(config, uint64_t(i)), grid.rank(), grid.ranks());
          out.terms.push_back(runner.accumulate(data, {.losses = config.losses}, i));
          if (i == 0) {
            out.gradients = gather_logical(session, &OwnedPart::gradient);
            out.counts = runner.expert_counts();
            out.expert_rows = grid.control().all_reduce_sum(session.transformer().expert_rows());
          }
          out.norms.push_back(runner.gradient_norm());
          runner.update({.optimizer = {.weight_decay = 0.1, .clip_norm = 1.0}, .learning_rate = 1e-3});
        }
        out.trained = gather_logical(session, &OwnedPart::master);
      },
      happens);
  return outcomes[0];
}

bool same_bits(const Outcome& a, const Outcome& b) {
  bool terms = a.terms.size() == b.terms.size();
  for (size_t i = 0; terms && i < a.terms.size(); ++i) terms = a.terms[i].value == b.terms[i].value;
  return terms && a.gradients == b.gradients && a.trained == b.trained && a.norms == b.norms;
}

/// In double precision only the order of sums differs.
void check_agrees(const Outcome& got, const Outcome& one) {
  for (size_t i = 0; i < one.terms.size(); ++i)
    for (size_t t = 0; t < term_count; ++t) {
      INFO("step " << i << ", " << term_table[t].name);
      CHECK(one.terms[i].value[t] != 0);
      CHECK(got.terms[i].value[t] == Approx(one.terms[i].value[t]).epsilon(1e-9));
    }
  CHECK(got.counts == one.counts);
  CHECK(got.expert_rows == one.expert_rows);
  CHECK(relative_error(got.gradients, one.gradients) < 1e-9);
  CHECK(relative_error(got.norms, one.norms) < 1e-9);
  CHECK(relative_error(got.trained, one.trained) < 1e-9);
}

TEST_CASE("With experts spread over ranks, the host reads the counts of each layer and nothing else") {
  Config config = every_term();
  config.run.precision = Precision::fp32;
  run_ranks(2, 2, [&](ProcessGrid& grid) {
    CpuDevice cpu;
    CountingDevice device(cpu);
    const std::unique_ptr<Ops> ops = device.make_ops();
    const SessionShape shape{Purpose::training, sequences / grid.ranks(), tokens};
    Session session(*ops, grid, config, shape, plan_training(config, shape, *ops, grid));
    StepRunner runner(session);
    session.parameters().initialize(*ops, 7);
    const StepData data = part_of_rank(whole_step(config, 0), grid.rank(), grid.ranks());
    device.requests = {};
    runner.step(data, {.losses = config.losses}, 0, {.optimizer = config.optimizer, .learning_rate = 1e-3});
    // The counts are copied on a stream of their own, and the host waits for its event.
    const int64_t micro_steps = 2;
    CHECK(device.requests.waits == micro_steps * session.transformer().moe_layers());
    CHECK(device.requests.uploads + device.requests.downloads == 0);
  });
}

TEST_CASE("Every term and gradient is that of one process") {
  Config config = every_term();
  SECTION("token form of cp, statistics by sequence") {}
  SECTION("batch form of cp, statistics of the micro-step") {
    config.losses.lb_scope = StatisticsScope::microbatch;
    config.losses.cp_paths = CouplingPaths::batch;
    config.losses.cp_sources = CouplingSources::activated;
  }
  SECTION("sp without o: outputs need not be kept") {
    config.losses.o_weight = 0;
  }
  SECTION("o without sp: its value alone is measured") {
    config.losses.sp_weight = 0;
  }
  SECTION("sigmoid, renormalized") {
    config.moe.score = RouterScore::sigmoid;
    config.moe.renormalize = true;
    config.moe.routed_scale = 2.5;
  }
  SECTION("four groups of experts, two kept") {
    config.moe.groups = 4;
    config.moe.groups_kept = 2;
  }
  SECTION("sp on a sample: the same tokens in every layout") {
    config.losses.sp_token_fraction = 0.4;
  }
  SECTION("blocks computed again") {
    config.train.recompute = Recompute::block;
  }
  SECTION("latent attention, blocks computed again") {
    use_latent_attention(config, 9);
    use_yarn(config);
    config.train.recompute = Recompute::block;
  }
  const Outcome one = train<std::make_unique<ReferenceOps>>(config, {1, 1});
  for (const Layout layout : layouts) {
    INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel);
    check_agrees(train<std::make_unique<ReferenceOps>>(config, layout), one);
  }
}

TEST_CASE("Experts that nobody chose, and ranks to which no row comes, are legal") {
  Config config = every_term();
  config.moe.top_k = GENERATE(1, 2);
  config.moe.bias_rate = 0;
  const Outcome one = train<std::make_unique<ReferenceOps>>(config, {1, 1}, Happens::at_wait, monotonous_step);
  const Outcome four = train<std::make_unique<ReferenceOps>>(config, {4, 4}, Happens::at_wait, monotonous_step);
  for (const auto& layer : one.counts)  // two experts a rank, at most two chosen: two ranks at least have no row
    CHECK(std::count(layer.begin(), layer.end(), 0.0) == 8 - config.moe.top_k);
  CHECK(four.counts == one.counts);
  for (const auto& [name, gradient] : one.gradients) {
    INFO(name);
    const auto size = [](const Values& x) {
      double largest = 0;
      for (const double value : x) largest = std::max(largest, std::abs(value));
      return largest;
    };
    // Where every value is the same, attention has no choice: the gradients of q and k are rounding.
    if (size(gradient) < 1e-12)
      CHECK(size(four.gradients.at(name)) < 1e-12);
    else
      CHECK(relative_error(four.gradients.at(name), gradient) < 1e-9);
  }
  CHECK(relative_error(four.trained, one.trained) < 1e-9);
}

TEST_CASE("The CPU backend, fp32: terms and gradients within 1e-5 of one process") {
  Config config = every_term();
  config.run.precision = Precision::fp32;
  const Outcome one = train<make_cpu_ops>(config, {1, 1});
  for (const Layout layout : layouts) {
    INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel);
    const Outcome got = train<make_cpu_ops>(config, layout);
    for (size_t t = 0; t < term_count; ++t) CHECK(got.terms[0].value[t] == Approx(one.terms[0].value[t]).epsilon(1e-5));
    CHECK(relative_error(got.gradients, one.gradients) < 1e-5);
    CHECK(relative_error(got.trained, one.trained) < 1e-4);
  }
}

TEST_CASE("Overlap, recomputation and the moment of a collective change no bit; nor do chunks") {
  Config config = every_term();
  config.run.precision = GENERATE(Precision::fp32, Precision::bf16);
  const Layout layout{4, 2};
  const Outcome reference = train<make_cpu_ops>(config, layout, Happens::at_begin);
  CHECK(same_bits(train<make_cpu_ops>(config, layout, Happens::at_wait), reference));
  config.parallel.overlap = false;
  CHECK(same_bits(train<make_cpu_ops>(config, layout), reference));
  config.parallel.overlap = true;
  for (const int64_t chunks : {1, 3, 4, 64}) {
    config.parallel.exchange_chunks = chunks;
    INFO(chunks << " chunks");
    CHECK(same_bits(train<make_cpu_ops>(config, layout), reference));
  }
  for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
    config.train.recompute = recompute;
    CHECK(same_bits(train<make_cpu_ops>(config, layout), reference));
  }
}

TEST_CASE("A term that is not measured sends nothing") {
  const auto bytes_sent = [&](const Config& config, TermSet asked, Traffic kind) {
    std::vector<double> bytes(2);
    run_ranks(2, 2, [&](ProcessGrid& grid) {
      ReferenceOps ops;
      const SessionShape shape{Purpose::training, sequences / 2, tokens};
      Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
      StepRunner runner(session);
      session.parameters().initialize(ops, 7);
      runner.accumulate(part_of_rank(whole_step(config, 0), grid.rank(), 2), {.losses = config.losses, .asked = asked},
                        0);
      bytes[size_t(grid.rank())] = grid.traffic()[kind].payload_bytes;
    });
    return bytes[0];
  };
  Config config = every_term();
  SECTION("sp: its rows stay where they are") {
    config.losses.sp_weight = 0;
    CHECK(bytes_sent(config, {}, Traffic::specialization) == 0);
    // z of every slot, once: 2 micro-steps of 2 sequences, 2 MoE layers, K = 3, F doubles.
    CHECK(bytes_sent(config, {Term::sp}, Traffic::specialization) ==
          2 * 2 * tokens * 2 * 3 * static_cast<double>(config.moe.expert_ffn) * 8);
  }
  SECTION("cp's batch form: no joint matrices") {
    config.losses.cp_paths = CouplingPaths::batch;
    config.losses.cp_weight = 0;
    // Of each micro-step E × E doubles for the one pair of layers.
    CHECK(bytes_sent(config, {Term::cp}, Traffic::statistics) - bytes_sent(config, {}, Traffic::statistics) ==
          2 * 8 * 8 * 8);
  }
  SECTION("lb and v by micro-step: no statistics") {
    config.losses.lb_scope = StatisticsScope::microbatch;
    config.losses.lb_weight = config.losses.v_weight = 0;
    const double none = bytes_sent(config, {}, Traffic::statistics);
    // Of each micro-step and layer, counts and sums of E experts.
    for (const Term term : {Term::lb, Term::v})
      CHECK(bytes_sent(config, {term}, Traffic::statistics) - none == 2 * 2 * 2 * 8 * 8);
  }
}

TEST_CASE("Reference files replayed with experts over ranks") {
  const auto replay = [](const char* file, Layout layout, auto make_ops, Precision precision) {
    const ReferenceCase reference(reference_file(file));
    std::vector<std::string> reports(size_t(layout.ranks));
    run_ranks(layout.ranks, layout.expert_parallel, [&](ProcessGrid& grid) {
      const auto ops = make_ops();
      const VerifyReport report = verify_case(reference, *ops, grid, precision);
      reports[size_t(grid.rank())] = (report.pass() ? "pass " : "FAIL ") + format_report(report);
    });
    INFO(file << ", " << layout.ranks << " ranks, expert_parallel " << layout.expert_parallel << ": " << reports[0]);
    CHECK(reports[0].starts_with("pass"));
  };
  for (const char* file : {"ranks_softmax_bias", "ranks_sigmoid_o_v"})
    for (const Layout layout : layouts) {
      replay(
          file, layout, [] { return std::make_unique<ReferenceOps>(); }, Precision::fp64);
      replay(file, layout, make_cpu_ops, Precision::fp32);
      replay(file, layout, make_cpu_ops, Precision::bf16);
    }
}

}  // namespace
}  // namespace strand::test
