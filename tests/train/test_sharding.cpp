// Training does not depend on the number of processes: ranks as threads (tests/parallel/thread_grid.h) against one.
#include "kernels/cpu/backend.h"
#include "kernels/staging.h"
#include "tests/catch.h"
#include "tests/model/harness.h"
#include "tests/parallel/thread_grid.h"
#include "tests/train/reference_files.h"
#include "train/checkpoint_saver.h"
#include "train/logical_values.h"
#include "train/model_state.h"
#include "train/training_plan.h"
#include "train/verify.h"

namespace strand::test {
namespace {

struct Layout {
  int ranks = 1, expert_parallel = 1;
};
constexpr int64_t tokens = 5;
constexpr int64_t sequences = 12;  // in each of two micro-steps: divides by 1, 2, 3, 4

/// No dimension is a multiple of 32, nor is a parameter of the number of ranks.
Config odd_config() {
  Config c = tiny_config(Precision::fp32);
  c.moe.num_experts = 4;
  c.moe.bias_rate = 1e-3;
  c.moe.shared_experts = 1;
  c.model.tied_embeddings = false;
  c.model.num_layers = 3;
  c.model.dense_layers = 1;
  c.model.dense_ffn = 7;
  c.model.init_std = 0.3;
  return c;
}

/// Several buckets of 1 MiB in every space that has matrices; tied, so that the embedding completes last.
Config several_buckets() {
  Config c = odd_config();
  c.model.vocab_size = 3001;
  c.model.hidden_size = 100;
  c.model.head_dim = 30;
  c.model.tied_embeddings = true;
  c.model.num_layers = 4;
  c.model.dense_ffn = 500;
  c.model.init_std = 0.1;
  c.moe.expert_ffn = 250;
  c.parallel.bucket_mib = 1;
  return c;
}

struct Outcome {
  NamedValues initial, gradients, trained;
  Values losses, norms;
};

StepData whole_step(const Config& config, uint64_t index) {
  return cut(random_batch(config, 2 * sequences, tokens, index), {sequences, sequences});
}

/// Ten steps of AdamW from the initial weights.
Outcome train(const Config& config, Layout layout, Happens happens = Happens::at_wait) {
  std::vector<Outcome> outcomes(size_t(layout.ranks));
  run_ranks(
      layout.ranks, layout.expert_parallel,
      [&](ProcessGrid& grid) {
        const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
        Ops& ops = *cpu_ops;
        Outcome& out = outcomes[size_t(grid.rank())];
        const SessionShape shape{Purpose::training, sequences / grid.ranks(), tokens};
        Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
        StepRunner runner(session);
        session.parameters().initialize(ops, 7);
        out.initial = gather_logical(session, &OwnedPart::master);
        for (int64_t i = 0; i < 10; ++i) {
          const StepData data = part_of_rank(whole_step(config, uint64_t(i)), grid.rank(), grid.ranks());
          out.losses.push_back(runner.accumulate(data, {.losses = config.losses}, i).loss);
          if (i == 0) out.gradients = gather_logical(session, &OwnedPart::gradient);
          out.norms.push_back(runner.gradient_norm());
          runner.update({.optimizer = {.weight_decay = 0.1, .clip_norm = 1.0}, .learning_rate = 1e-3});
        }
        out.trained = gather_logical(session, &OwnedPart::master);
      },
      happens);
  for (const Outcome& other : outcomes) {
    CHECK(other.losses == outcomes[0].losses);
    CHECK(other.norms == outcomes[0].norms);
    CHECK(other.trained == outcomes[0].trained);
  }
  return outcomes[0];
}

bool same_bits(const Outcome& a, const Outcome& b) {
  return a.initial == b.initial && a.gradients == b.gradients && a.trained == b.trained && a.losses == b.losses &&
         a.norms == b.norms;
}

/// fp32 sums over 120 tokens in another order: some 1e-6 of the largest element. Ten updates of AdamW divide the
/// difference of a gradient by its size, element by element.
void check_agrees(const Outcome& got, const Outcome& one) {
  CHECK(got.initial == one.initial);
  CHECK(relative_error(got.gradients, one.gradients) < 1e-5);
  CHECK(relative_error(got.losses, one.losses) < 1e-5);
  CHECK(relative_error(got.norms, one.norms) < 1e-5);
  CHECK(relative_error(got.trained, one.trained) < 1e-4);
}

TEST_CASE("Any number of ranks trains the model that one trains") {
  Config config = odd_config();
  SECTION("attention of heads") {}
  SECTION("latent attention") {
    config.model.qk_norm = QkNorm::none;
    use_latent_attention(config, 9);
    use_yarn(config);
  }
  const Outcome one = train(config, {1, 1});
  for (const Layout layout : {Layout{2, 1}, Layout{3, 1}, Layout{4, 1}, Layout{2, 2}, Layout{4, 2}, Layout{4, 4}}) {
    INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel);
    check_agrees(train(config, layout), one);
  }
}

TEST_CASE("The same, of a model of many buckets, tied") {
  const Config config = several_buckets();
  const Outcome one = train(config, {1, 1});
  check_agrees(train(config, {3, 1}), one);
  check_agrees(train(config, {4, 2}), one);
}

TEST_CASE("Overlap, the size of buckets and the moment of a collective change no bit") {
  Config config = several_buckets();
  const Outcome reference = train(config, {2, 1}, Happens::at_begin);
  CHECK(same_bits(train(config, {2, 1}, Happens::at_wait), reference));
  config.parallel.overlap = false;
  CHECK(same_bits(train(config, {2, 1}), reference));
  config.parallel.overlap = true;
  config.parallel.bucket_mib = 2;
  Outcome other = train(config, {2, 1});
  // The norm sums the same squares in another order, in double: the clip factor agrees to its last digit in float.
  CHECK(other.gradients == reference.gradients);
  CHECK(relative_error(other.norms, reference.norms) < 1e-12);
  CHECK(relative_error(other.trained, reference.trained) < 1e-6);
}

TEST_CASE("Gradients that travel in bf16 differ by the rounding of what was sent") {
  Config config = odd_config();
  const Outcome exact = train(config, {4, 1});
  config.parallel.gradient_type = GradientType::bf16;
  const Outcome rounded = train(config, {4, 1});
  // 2^-9 of each of four addends, which may exceed their sum.
  CHECK(relative_error(rounded.gradients, exact.gradients) < 4 * 0x1p-9);
  CHECK(rounded.gradients != exact.gradients);
}

TEST_CASE("bf16 compute: the master copies are sharded, and each rank reads the rounded weights of all") {
  Config config = odd_config();
  config.run.precision = Precision::bf16;
  const Outcome one = train(config, {1, 1}), three = train(config, {3, 1});
  CHECK(three.initial == one.initial);
  // Activations are rounded alike, row by row; sums over rows are fp32.
  CHECK(relative_error(three.gradients, one.gradients) < 1e-4);
}

TEST_CASE("A rank has a part of the moments, and the memory that the plan says") {
  Config config = several_buckets();
  for (const Layout layout : {Layout{1, 1}, Layout{2, 1}, Layout{4, 1}, Layout{4, 2}}) {
    INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel);
    std::vector<int64_t> owned(size_t(layout.ranks)), total(owned.size());
    std::vector<size_t> held(owned.size()), planned(owned.size());
    run_ranks(layout.ranks, layout.expert_parallel, [&](ProcessGrid& grid) {
      const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
      Ops& ops = *cpu_ops;
      const SessionShape shape{Purpose::training, 1, tokens};
      const SessionPlan plan = plan_training(config, shape, ops, grid);
      Session session(ops, grid, config, shape, plan);
      const auto rank = size_t(grid.rank());
      for (const Bucket& b : session.parameters().buckets()) {
        owned[rank] += b.m.elements();
        held[rank] += b.weights.bytes() + b.gradients.bytes() + b.m.bytes() + b.v.bytes();
      }
      for (const Arena::Record& record : plan.model.records)
        for (const char* what : {"weights (", "gradients (", "moments "})
          if (record.name.starts_with(what)) planned[rank] += record.bytes;
      total[rank] = session.parameters().elements();
      session.parameters().initialize(ops, 1);
    });
    CHECK(held == planned);
    for (const int64_t of_rank : owned) {
      CHECK(of_rank * layout.ranks >= total[0]);
      // Padding: at most 32 elements a parameter, and 32 a rank and bucket.
      CHECK(of_rank * layout.ranks <= total[0] + 32 * 64 + 32 * layout.ranks * 16);
    }
  }
}

TEST_CASE("The layout of a space: whole parameters in buckets that divide") {
  const std::vector<int64_t> sizes{5, 32, 33, 1000, 1};
  for (const int parts : {1, 2, 3, 7}) {
    INFO(parts << " parts");
    const ParameterLayout layout(sizes, 100, parts);
    // 5, 32 and (alone, as 64 more exceed 100 with them) 33, 1000, 1.
    REQUIRE(layout.buckets.size() == 4);
    CHECK(layout.buckets[0].members == std::vector<size_t>{0, 1});
    int64_t end = 0;
    for (const ParameterLayout::Bucket& b : layout.buckets) {
      CHECK(b.first == end);
      CHECK(b.elements % (32 * parts) == 0);
      end = b.first + b.elements;
      int64_t filled = b.first;
      for (const size_t i : b.members) {
        CHECK(layout.first[i] >= filled);
        CHECK(layout.first[i] % 32 == 0);
        filled = layout.first[i] + sizes[i];
      }
      CHECK(filled <= end);
    }
    CHECK(layout.elements == end);
  }
}

TEST_CASE("A bucket is filled to its size and not past it") {
  constexpr int64_t limit = 1 << 18;  // elements of f32 in 1 MiB, the smallest that parallel.bucket_mib allows
  const auto buckets = [](const std::vector<int64_t>& sizes) {
    return ParameterLayout(sizes, limit, 1).buckets.size();
  };
  for (const int64_t size : {limit - 32, limit - 1, limit}) {
    CHECK(buckets({size}) == 1);
    CHECK(buckets({size, 1}) == (size <= limit - 32 ? 1 : 2));
    CHECK(buckets({size, 33}) == 2);
  }
  CHECK(buckets({limit + 1}) == 1);  // whole, in one of its own
  CHECK(buckets({1, limit + 1, 1}) == 3);
  CHECK(buckets({1, 5 * limit / 2, 1}) == 3);
  CHECK(buckets(std::vector<int64_t>(5, limit / 2)) == 3);
}

/// The values of everything that a checkpoint holds, by name.
struct Everything {
  NamedValues master, m, v, biases;
  bool operator==(const Everything&) const = default;

  static Everything of(Session& session) {
    Everything all{.master = gather_logical(session, &OwnedPart::master),
                   .m = gather_logical(session, &OwnedPart::m),
                   .v = gather_logical(session, &OwnedPart::v),
                   .biases = {}};
    for (const auto& b : session.parameters().router_biases())
      all.biases[b.name] = download_values(session.ops(), b.bias);
    return all;
  }
};

/// Three steps, a checkpoint, and three more. What the checkpoint should hold, and what comes after it.
struct Run {
  Everything saved, after;
  std::string path;
};

void steps(StepRunner& runner, const Config& config, ProcessGrid& grid, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    runner.accumulate(part_of_rank(whole_step(config, uint64_t(i)), grid.rank(), grid.ranks()),
                      {.losses = config.losses}, i);
    runner.update({.optimizer = {.clip_norm = 1.0}, .learning_rate = 1e-3});
  }
}

Run run_and_save(const Config& config, Layout layout, const std::string& directory, CheckpointSaver::Mode mode) {
  Run run;
  run_ranks(layout.ranks, layout.expert_parallel, [&](ProcessGrid& grid) {
    const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
    Ops& ops = *cpu_ops;
    const SessionShape shape{Purpose::training, sequences / grid.ranks(), tokens};
    Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
    StepRunner runner(session);
    CheckpointSaver saver(directory, session, mode, Retention{});
    session.parameters().initialize(ops, 7);
    steps(runner, config, grid, 0, 3);
    const Everything saved = Everything::of(session);
    saver.save({.state = {.step = 3}, .config_yaml = "run: {}\n", .tokenizer = {}});
    steps(runner, config, grid, 3, 6);
    const CheckpointSaver::Saved told = saver.finish();
    const Everything after = Everything::of(session);
    if (grid.rank() == 0) run = {saved, after, told.path};
  });
  return run;
}

TEST_CASE("A checkpoint of any layout is resumed on any other, bit for bit; and on its own goes on as if nothing was") {
  const Config config = several_buckets();
  for (const auto& [layout, mode] : {std::pair{Layout{4, 4}, CheckpointSaver::Mode::background},
                                     std::pair{Layout{3, 1}, CheckpointSaver::Mode::wait}}) {
    const TemporaryDirectory directory;
    const Run run = run_and_save(config, layout, directory / "checkpoints", mode);
    const Checkpoint checkpoint(run.path);
    CHECK(checkpoint.model().files().size() == size_t(layout.ranks));
    for (const Layout other : {Layout{1, 1}, Layout{2, 1}, Layout{3, 1}, Layout{4, 2}, layout}) {
      INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel << ", to " << other.ranks << ", "
                        << other.expert_parallel);
      std::vector<Everything> loaded(size_t(other.ranks)), after(loaded.size());
      run_ranks(other.ranks, other.expert_parallel, [&](ProcessGrid& grid) {
        const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
        Ops& ops = *cpu_ops;
        const SessionShape shape{Purpose::training, sequences / grid.ranks(), tokens};
        Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
        StepRunner runner(session);
        load_model(session, checkpoint.model());
        load_optimizer(session, checkpoint.optimizer());
        runner.set_updates(3);
        loaded[size_t(grid.rank())] = Everything::of(session);
        steps(runner, config, grid, 3, 6);
        after[size_t(grid.rank())] = Everything::of(session);
      });
      CHECK(loaded[0] == run.saved);
      if (other.ranks == layout.ranks && other.expert_parallel == layout.expert_parallel) CHECK(after[0] == run.after);
      CHECK(relative_error(after[0].master, run.after.master) < 1e-4);
    }
  }
}

TEST_CASE("Reference files replayed on several ranks") {
  struct Case {
    const char* file;
    Layout layout;
  };
  for (const Case& c :
       {Case{"ranks_softmax_bias", {2, 1}}, Case{"ranks_softmax_bias", {4, 2}}, Case{"ranks_sigmoid_o_v", {4, 1}},
        Case{"ranks_sigmoid_o_v", {2, 2}}, Case{"ranks_sigmoid_o_v", {4, 4}}}) {
    const ReferenceCase reference(reference_file(c.file));
    std::vector<std::string> reports(size_t(c.layout.ranks));
    run_ranks(c.layout.ranks, c.layout.expert_parallel, [&](ProcessGrid& grid) {
      const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
      Ops& ops = *cpu_ops;
      const VerifyReport report = verify_case(reference, ops, grid, Precision::fp32);
      reports[size_t(grid.rank())] = (report.pass() ? "pass " : "FAIL ") + format_report(report);
    });
    INFO(c.layout.ranks << " ranks, expert_parallel " << c.layout.expert_parallel << ": " << reports[0]);
    CHECK(reports[0].starts_with("pass"));
    for (const std::string& other : reports) CHECK(other == reports[0]);
  }
}

TEST_CASE("A reference file whose micro-steps or experts do not divide is refused, saying which") {
  const ReferenceCase reference(reference_file("ranks_softmax_bias"));
  const auto replay = [&](int ranks, int expert_parallel) {
    run_ranks(ranks, expert_parallel, [&](ProcessGrid& grid) {
      const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
      Ops& ops = *cpu_ops;
      verify_case(reference, ops, grid, Precision::fp32);
    });
  };
  CHECK_THROWS_WITH(replay(3, 1), Catch::Contains("sequences does not divide by 3 ranks"));
  CHECK_THROWS_WITH(replay(5, 5), Catch::Contains("does not divide"));
}

}  // namespace
}  // namespace strand::test
