// The head in chunks of rows: whatever the size of a chunk, the loss, the logits and the gradients are those of the
// textbook, which computes all rows at once.
#include <cmath>
#include <vector>

#include "harness.h"
#include "kernels/staging.h"
#include "model/backend.h"
#include "model/dispatcher.h"
#include "model/forward_observer.h"
#include "model/head.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

constexpr int64_t vocabulary = 7, width = 5, chunk = 16;
constexpr int64_t valid_targets = 100;  // of the step: the share of one is 1/100

Values random(const std::string& name, int64_t count) {
  Values values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(bf16(static_cast<float>(random_normal(hash_key(3, name), uint64_t(i))))));
  return values;
}

struct Inputs {
  int64_t rows;
  Values hidden = random("hidden", rows*width), weight = random("weight", vocabulary*width);
  Values dweight = random("gradient before", vocabulary*width), targets{};

  explicit Inputs(int64_t n) : rows(n) {
    for (int64_t t = 0; t < rows; ++t) targets.push_back(t % 5 == 3 ? -1 : static_cast<double>((t * 3 + t / 7) % 7));
  }
};

struct Outputs {
  double ce = 0;
  Values logits, dhidden, dweight;
};

/// CE as a sum in which each target has the weight `share`, and its gradients.
Outputs textbook(const Inputs& in, double share) {
  Outputs out{.dhidden = Values(in.hidden.size()), .dweight = in.dweight};
  for (int64_t t = 0; t < in.rows; ++t) {
    Values exponential(vocabulary);
    double sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v) {
      double logit = 0;
      for (int64_t d = 0; d < width; ++d) logit += in.hidden[size_t(t * width + d)] * in.weight[size_t(v * width + d)];
      out.logits.push_back(logit);
      sum += exponential[size_t(v)] = std::exp(logit);
    }
    const auto target = static_cast<int64_t>(in.targets[size_t(t)]);
    if (target < 0) continue;
    out.ce += share * (std::log(sum) - std::log(exponential[size_t(target)]));
    for (int64_t v = 0; v < vocabulary; ++v) {
      const double dlogit = share * (exponential[size_t(v)] / sum - (v == target ? 1 : 0));
      for (int64_t d = 0; d < width; ++d) {
        out.dhidden[size_t(t * width + d)] += dlogit * in.weight[size_t(v * width + d)];
        out.dweight[size_t(v * width + d)] += dlogit * in.hidden[size_t(t * width + d)];
      }
    }
  }
  return out;
}

/// Puts the chunks of logits that an observer is shown where they belong.
class Shown final : public ForwardObserver {
 public:
  Shown(Ops& ops, int64_t rows) : logits(static_cast<size_t>(rows * vocabulary)), ops_(ops) {}
  void predicted(int64_t first, const Tensor& chunk_logits) override {
    const Values values = download_values(ops_, chunk_logits);
    std::copy(values.begin(), values.end(), logits.begin() + first * vocabulary);
  }
  Values logits;

 private:
  Ops& ops_;
};

enum class Mode { training, evaluation };

Outputs by_head_loss(Ops& ops, const Inputs& in, Precision precision, Mode mode) {
  ProcessGrid self;
  const Config config = tiny_config(precision);
  constexpr size_t room = size_t{1} << 20;
  const DeviceMemory memory[2] = {{ops.device(), MemoryKind::device, room}, {ops.device(), MemoryKind::device, room}};
  Arena step("step", memory[0].data(), room), scratch("scratch", memory[1].data(), room);
  const NumberTypes types = NumberTypes::of(precision);
  const std::unique_ptr<Dispatcher> dispatcher = make_dispatcher(self, ops.device(), config.moe.num_experts);
  Context c = Context::of(ops, self, *dispatcher, config, step, scratch);
  c.head_chunk = {.logits = chunk * vocabulary + 3, .least_rows = 1};
  const auto tensor = [&](const char* name, DType type, const Shape& shape, const Values& values) {
    const Tensor t = step.allocate(name, type, shape);
    upload_values(ops, t, values);
    return t;
  };
  const Tensor hidden = tensor("hidden", types.act, {in.rows, width}, in.hidden);
  const Tensor weight = tensor("weight", types.act, {vocabulary, width}, in.weight);
  const Tensor dweight = tensor("dweight", types.acc, {vocabulary, width}, in.dweight);
  const Tensor targets = tensor("targets", DType::i32, {in.rows}, in.targets);
  const Tensor terms = tensor("terms", DType::f64, {term_count}, Values(term_count));
  const Tensor dhidden = step.allocate("dhidden", types.acc, {in.rows, width});
  const Tensor logits = step.allocate("logits", types.acc, {in.rows, vocabulary});
  const Objective objective{.losses = config.losses};
  const StepShape step_shape{.tokens = in.rows};
  Values step_numbers(step_number_count);
  step_numbers[static_cast<size_t>(place(StepNumber::target_share))] = target_share(valid_targets);
  const Tensor numbers = tensor("numbers", DType::f64, {step_number_count}, step_numbers);
  LossContext loss{objective, LossScale(objective, config.moe, step_shape, {1, in.rows, in.rows}),
                   {},        numbers,
                   terms,     objective.measured()};
  Shown shown(ops, in.rows);
  loss.observer = &shown;
  const bool train = mode == Mode::training;
  head_loss(c, weight, hidden, targets, loss, train ? dhidden : Tensor{}, train ? dweight : Tensor{}, logits);
  Outputs out{.ce = download_values(ops, terms)[0], .logits = download_values(ops, logits)};
  if (train) out.dhidden = download_values(ops, dhidden);
  out.dweight = download_values(ops, dweight);
  CHECK(shown.logits == out.logits);
  return out;
}

}  // namespace

TEST_CASE("A chunk has at most so many logits, and at least so many rows") {
  const HeadChunk chunk{.logits = int64_t{1} << 23, .least_rows = 256};
  CHECK(head_chunk_rows(1000, 32000, chunk) == 262);
  CHECK(head_chunk_rows(100, 32000, chunk) == 100);
  CHECK(head_chunk_rows(1000, 151936, chunk) == 256);
  CHECK(head_chunk_rows(100, 151936, chunk) == 100);
  CHECK(head_chunk_rows(100, 32000, {.logits = 31999, .least_rows = 1}) == 1);
}

TEST_CASE("The head in chunks is the head at once: loss, logits, gradients") {
  const std::unique_ptr<Device> ops_device = make_device({});
  const std::unique_ptr<Ops> ops = ops_device->make_ops();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const double tolerance = precision == Precision::bf16 ? 0x1p-7 : 1e-5;
    for (const int64_t rows : {chunk - 1, chunk, chunk + 1, 5 * chunk / 2, 5 * chunk}) {
      const Inputs in(rows);
      const Outputs want = textbook(in, 1.0 / valid_targets);
      for (const Mode mode : {Mode::training, Mode::evaluation}) {
        INFO("precision " << int(precision) << ", " << rows << " rows, mode " << int(mode));
        const Outputs got = by_head_loss(*ops, in, precision, mode);
        CHECK(got.ce == Approx(want.ce).epsilon(1e-5));
        CHECK(relative_error(got.logits, want.logits) < 1e-5);
        if (mode == Mode::evaluation) {
          CHECK(relative_error(got.dweight, in.dweight) == 0);
          continue;
        }
        CHECK(relative_error(got.dhidden, want.dhidden) < tolerance);
        CHECK(relative_error(got.dweight, want.dweight) < tolerance);
      }
    }
  }
}

}  // namespace strand::test
