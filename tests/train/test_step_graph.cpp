// Training steps that are recorded as CUDA graphs, on an emulated GPU: the same bits as steps that are not, whatever
// happens between them, and nothing that the host waits for or allocates.
#include "gpu_emulation/control.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/catch.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

constexpr int64_t sequences = 3, tokens = 5;

/// Steps of four sequences, of which SP sees a sample, in two micro-steps of three and one.
Config graph_config(Precision precision) {
  Config config = tiny_config(precision);
  config.run.device = DeviceKind::cuda;
  config.losses.sp_token_fraction = 0.5;
  config.losses.cp_weight = 0;
  config.losses.o_weight = 0;
  config.moe.bias_rate = 0.01;
  config.train.global_batch_size = 4;
  config.train.micro_batch_size = sequences;
  return config;
}

/// What must not depend on whether steps are recorded.
struct Outcome {
  std::vector<double> numbers;  ///< of all steps, in order
  NamedValues weights;
  bool operator==(const Outcome&) const = default;
};

class Run {
 public:
  /// Steps have so many sequences, in micro-steps of three and the rest.
  explicit Run(const Config& config, int64_t step_sequences = 4)
      : config_(config),
        step_sequences_(step_sequences),
        device_({}),
        ops_(device_.make_ops()),
        model_(*ops_, config, sequences, tokens) {
    model_.randomize(5);
  }

  /// Every third step is one that is logged: it also measures terms without a weight, and its update.
  void steps(int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      enqueue();
      take();
    }
  }
  void enqueue() {
    std::vector<int64_t> micro_batches(1, sequences);
    if (step_sequences_ > sequences) micro_batches.push_back(step_sequences_ - sequences);
    const StepData data =
        cut(random_batch(config_, step_sequences_, tokens, static_cast<uint64_t>(100 + index_)), micro_batches);
    const Objective objective{.losses = config_.losses,
                              .asked = index_ % 3 == 0 ? TermSet::all() : terms_of_every_step()};
    model_.runner.step(data, objective, index_,
                       {.optimizer = config_.optimizer,
                        .learning_rate = 1e-2 / static_cast<double>(1 + index_),
                        .size = index_ % 3 == 0 ? UpdateSize::measured : UpdateSize::not_measured});
    ++index_;
  }
  void take() {
    const StepResult result = model_.runner.take_result();
    CHECK(result.applied);
    const auto& values = result.terms.value;
    outcome_.numbers.insert(outcome_.numbers.end(), values.begin(), values.end());
    outcome_.numbers.push_back(result.gradient_norm);
    if (result.update_ratio) outcome_.numbers.push_back(*result.update_ratio);
    for (const auto& layer : result.expert_counts)
      outcome_.numbers.insert(outcome_.numbers.end(), layer.begin(), layer.end());
  }
  /// Of another shape than a step's.
  void evaluate() {
    const StepData data = random_batch(config_, 2, tokens - 2, 7);
    outcome_.numbers.push_back(model_.runner.evaluate(data, whole_objective(config_)).loss);
  }
  void gradients_of_one_micro_step() {
    const StepData data = random_batch(config_, 1, tokens, 8);
    outcome_.numbers.push_back(model_.accumulate(data, whole_objective(config_), 3).loss);
  }
  /// So that what was recorded with its address is gone.
  void move_workspace() { device_.workspace(size_t{1} << 22); }

  Outcome outcome() {
    outcome_.weights = model_.weights();
    return outcome_;
  }
  StepRunner& runner() { return model_.runner; }

 private:
  Config config_;
  int64_t step_sequences_;
  CudaDevice device_;
  std::unique_ptr<Ops> ops_;
  TestModel model_;
  int64_t index_ = 0;
  Outcome outcome_;
};

std::string reports() {
  std::string text;
  for (const gpu_emulation::Report& report : gpu_emulation::take_reports()) text += report.kind + ": " + report.text;
  return text;
}

TEST_CASE("Recorded steps give the bits of steps that are not recorded") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const auto outcome_of = [&](bool graph) {
      Config config = graph_config(precision);
      config.cuda.graph = graph;
      Run run(config);
      const gpu_emulation::Counters before = gpu_emulation::counters();
      run.steps(7);
      CHECK(run.runner().replayed() == graph);
      run.evaluate();
      run.steps(2);
      run.gradients_of_one_micro_step();
      run.steps(1);
      run.move_workspace();
      run.steps(3);
      const gpu_emulation::Counters after = gpu_emulation::counters();
      // Thirteen steps in two forms; the first of each form is not launched as a graph.
      CHECK(after.graph_launches - before.graph_launches == (graph ? 11 : 0));
      CHECK(after.graph_instantiations - before.graph_instantiations == (graph ? 2 : 0));
      const Outcome outcome = run.outcome();
      CHECK(reports() == "");
      return outcome;
    };
    gpu_emulation::set_order(gpu_emulation::Order::random, 3);
    CHECK(outcome_of(true) == outcome_of(false));
  }
}

TEST_CASE("A step on one GPU allocates nothing and waits for nothing, and a recorded one is launched as one piece") {
  for (const bool graph : {true, false}) {
    INFO((graph ? "recorded" : "not recorded"));
    Config config = graph_config(Precision::bf16);
    config.cuda.graph = graph;
    // Without a graph, the host may be two micro-batches ahead, which here is one step of two.
    Run run(config, graph ? 4 : 3);
    run.steps(6);
    const gpu_emulation::Counters before = gpu_emulation::counters();
    // One step ahead of the results, as in training.
    run.enqueue();
    for (int i = 0; i < 4; ++i) {
      const uint64_t waited = gpu_emulation::counters().synchronizations;
      run.enqueue();
      CHECK(gpu_emulation::counters().synchronizations == waited);
      run.take();
      CHECK(gpu_emulation::counters().synchronizations <= waited + 1);  // for the result, and nothing else
    }
    const gpu_emulation::Counters after = gpu_emulation::counters();
    CHECK(after.allocations == before.allocations);
    CHECK(after.frees == before.frees);
    CHECK((after.launches - before.launches == 5) == graph);  // each step notes its number
    run.take();
    CHECK(reports() == "");  // of the legacy stream, among others
  }
}

TEST_CASE("A step that is larger than those of the configuration runs operation by operation") {
  Config config = graph_config(Precision::fp32);
  config.train.global_batch_size = 3;
  Run run(config, 4);
  const gpu_emulation::Counters before = gpu_emulation::counters();
  run.steps(3);
  CHECK(gpu_emulation::counters().graph_launches == before.graph_launches);
  CHECK_FALSE(run.runner().replayed());
  CHECK(reports() == "");
}

}  // namespace
}  // namespace strand::test
