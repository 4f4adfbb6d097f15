// How fast the operations of the CUDA backend are on the GPU of this machine, at sizes of real models.
//
//   cuda_bench [PART OF A NAME]      all measurements, or those whose name has this in it
//
// Every operation runs alone: a warm-up, then as many calls as fill some tens of milliseconds, timed by events of the
// compute stream. FLOP are those of the mathematics (a causal score above the diagonal counts as nothing, and work that
// a kernel does twice counts once); bytes are what has to be read and written at least once.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <tuple>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/errors.h"
#include "kernels/ops.h"

namespace strand {
namespace {

/// A device, its operations, and memory that goes with one measurement.
class Bench {
 public:
  Bench(const char* filter, const CudaDeviceOptions& options)
      : filter_(filter), device_(options), ops_(device_.make_ops()) {
    for (size_t i = 0; i < noise_.size(); ++i) noise_[i] = static_cast<float>(random_normal(hash_key(1, "bench"), i));
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }

  CudaDevice& device() { return device_; }
  bool wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  void release() { memory_.clear(); }

  /// Normal numbers, repeating after a prime number of elements.
  Tensor noise(DType dtype, const Shape& shape, float scale = 1) {
    const Tensor tensor = allocate(dtype, shape);
    std::vector<std::byte> host(tensor.bytes());
    for (size_t i = 0; i < static_cast<size_t>(tensor.elements()); ++i) {
      const float value = scale * noise_[i % noise_.size()];
      if (dtype == DType::bf16) {
        const bf16 rounded(value);
        std::memcpy(&host[i * 2], &rounded, 2);
      } else {
        std::memcpy(&host[i * 4], &value, 4);
      }
    }
    device_.upload(host.data(), tensor);
    return tensor;
  }
  Tensor zeros(DType dtype, const Shape& shape) {
    const Tensor tensor = allocate(dtype, shape);
    (*ops_)(Zero{.x = tensor});
    return tensor;
  }
  Tensor ids(const std::vector<int32_t>& values) {
    const Tensor tensor = allocate(DType::i32, {static_cast<int64_t>(values.size())});
    device_.upload(values.data(), tensor);
    return tensor;
  }
  Tensor numbers(double target_share) {
    std::vector<double> values(step_number_count);
    values[static_cast<size_t>(place(StepNumber::target_share))] = target_share;
    const Tensor tensor = allocate(DType::f64, {step_number_count});
    device_.upload(values.data(), tensor);
    return tensor;
  }

  enum class Unit { tera_flop, giga_byte };
  template <typename Op>
  void measure(const std::string& name, const Op& op, double amount, Unit unit) {
    if (!wanted(name)) return;
    const double first = seconds(op, 1), once = std::min(first, seconds(op, 1));
    const int calls = std::clamp(static_cast<int>(0.04 / once), 3, 100);
    const double each = seconds(op, calls) / calls;
    fmt::print("{:<58} {:9.3f} ms {:9.1f} {}\n", name, 1e3 * each,
               amount / each / (unit == Unit::tera_flop ? 1e12 : 1e9), unit == Unit::tera_flop ? "TFLOP/s" : "GB/s");
    std::fflush(stdout);
  }

 private:
  static void check(cudaError_t error) { gpu::check(error, "cuda_bench"); }
  Tensor allocate(DType dtype, const Shape& shape) {
    const size_t bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
    memory_.emplace_back(device_, MemoryKind::device, bytes);
    return memory_.back().tensor(dtype, shape);
  }
  template <typename Op>
  double seconds(const Op& op, int calls) {
    const cudaStream_t stream = device_.stream(Stream::compute);
    check(cudaEventRecord(begin_, stream));
    for (int i = 0; i < calls; ++i) (*ops_)(op);
    check(cudaEventRecord(end_, stream));
    check(cudaEventSynchronize(end_));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return 1e-3 * static_cast<double>(milliseconds);
  }

  std::string filter_;
  CudaDevice device_;
  std::unique_ptr<Ops> ops_;
  std::vector<DeviceMemory> memory_;
  std::vector<float> noise_ = std::vector<float>(999983);
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

using Unit = Bench::Unit;
constexpr DType act = DType::bf16, acc = DType::f32;

void dense(Bench& b) {
  const int64_t T = 16384, I = 2048, O = 2048;
  if (!b.wanted("linear")) return;
  const Tensor x = b.noise(act, {T, I}), w = b.noise(act, {O, I}), y = b.zeros(act, {T, O});
  const double flop = 2.0 * T * I * O;
  b.measure("linear forward 16384 x 2048 x 2048", Linear{.x = x, .weight = w, .y = y}, flop, Unit::tera_flop);
  b.measure("linear forward, f32 out", Linear{.x = x, .weight = w, .y = b.zeros(acc, {T, O})}, flop, Unit::tera_flop);
  b.measure("linear backward input", LinearBackwardInput{.dy = y, .weight = w, .dx = b.zeros(act, {T, I})}, flop,
            Unit::tera_flop);
  b.measure("linear backward weight", LinearBackwardWeight{.dy = y, .x = x, .dweight = b.zeros(acc, {O, I})}, flop,
            Unit::tera_flop);
  b.release();
}

/// Row blocks of E experts that together hold about `slots` rows: even, or each expert with less than the one before.
std::vector<int32_t> offsets_of(int64_t experts, int64_t slots, bool even) {
  std::vector<int32_t> offsets{0};
  const auto share = [&](int64_t e) {
    return even ? 1.0 / static_cast<double>(experts)
                : 2.0 * static_cast<double>(experts - e) / static_cast<double>(experts * (experts + 1));
  };
  for (int64_t e = 0; e < experts; ++e) {
    const auto rows = static_cast<int32_t>(static_cast<double>(slots) * share(e));
    offsets.push_back(offsets.back() + (rows + 15) / 16 * 16);
  }
  return offsets;
}

void grouped(Bench& b, const std::string& way, int64_t experts, int64_t inputs, int64_t outputs, bool even) {
  const int64_t slots = 65536;
  const std::string shape =
      fmt::format("grouped {} E {} {} -> {}{}", way, experts, inputs, outputs, even ? "" : " uneven");
  if (!b.wanted(shape)) return;
  const std::vector<int32_t> host_offsets = offsets_of(experts, slots, even);
  const int64_t rows = host_offsets.back();
  const Tensor x = b.noise(act, {rows, inputs}), w = b.noise(act, {experts, outputs, inputs});
  const Tensor y = b.noise(act, {rows, outputs}), offsets = b.ids(host_offsets);
  const double flop = 2.0 * static_cast<double>(rows * inputs * outputs);
  b.measure(shape + " forward", GroupedLinear{.x = x, .weight = w, .offsets = offsets, .y = y, .slots = slots}, flop,
            Unit::tera_flop);
  b.measure(shape + " backward input",
            GroupedLinearBackwardInput{
                .dy = y, .weight = w, .offsets = offsets, .dx = b.zeros(act, {rows, inputs}), .slots = slots},
            flop, Unit::tera_flop);
  b.measure(
      shape + " backward weight",
      GroupedLinearBackwardWeight{
          .dy = y, .x = x, .offsets = offsets, .dweight = b.zeros(acc, {experts, outputs, inputs}), .slots = slots},
      flop, Unit::tera_flop);
  b.release();
}

void attention(Bench& b, int64_t sequences, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const std::string shape =
      fmt::format("attention B {} S {} H {} G {} A {}", sequences, tokens, heads, kv_heads, head_dim);
  if (!b.wanted(shape)) return;
  const HeadLayout l{
      .sequences = sequences, .tokens = tokens, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
  const Shape q_shape{sequences, heads, tokens, head_dim}, kv_shape{sequences, kv_heads, tokens, head_dim};
  const Shape rows{sequences * tokens, heads * head_dim}, statistics{sequences, heads, tokens};
  const Attention forward{.layout = l,
                          .q = b.noise(act, q_shape),
                          .k = b.noise(act, kv_shape),
                          .v = b.noise(act, kv_shape),
                          .out = b.zeros(act, rows),
                          .lse = b.zeros(acc, statistics)};
  const AttentionBackward backward{.layout = l,
                                   .q = forward.q,
                                   .k = forward.k,
                                   .v = forward.v,
                                   .out = forward.out,
                                   .lse = forward.lse,
                                   .dout = b.noise(act, rows),
                                   .delta = b.zeros(acc, statistics),
                                   .dq = b.zeros(act, q_shape),
                                   .dk = b.zeros(act, kv_shape),
                                   .dv = b.zeros(act, kv_shape)};
  const double product = static_cast<double>(sequences * heads * head_dim) * static_cast<double>(tokens * tokens);
  b.measure(shape + " forward", forward, 2 * product, Unit::tera_flop);
  b.measure(shape + " backward", backward, 5 * product, Unit::tera_flop);
  b.release();
}

void cache_attention(Bench& b, int64_t sequences, int64_t positions) {
  const std::string name = fmt::format("cache attention {} sequences, {} positions", sequences, positions);
  if (!b.wanted(name)) return;
  const int64_t H = 16, G = 4, A = 128;
  std::vector<int32_t> sequence(static_cast<size_t>(sequences));
  std::iota(sequence.begin(), sequence.end(), 0);
  const std::vector<int32_t> position(sequence.size(), static_cast<int32_t>(positions - 1));
  const CacheAttention op{.layout = {.sequences = sequences, .tokens = 1, .heads = H, .kv_heads = G, .head_dim = A},
                          .q = b.noise(act, {sequences, H, 1, A}),
                          .places = {.sequence = b.ids(sequence), .position = b.ids(position)},
                          .keys = b.noise(act, {sequences, G, positions, A}),
                          .values = b.noise(act, {sequences, G, positions, A}),
                          .out = b.zeros(act, {sequences, H * A})};
  b.measure(name, op, 2.0 * static_cast<double>(sequences * G * positions * A * 2), Unit::giga_byte);
  b.release();
}

void cross_entropy(Bench& b, int64_t rows, int64_t words) {
  const std::string name = fmt::format("cross-entropy {} x {}", rows, words);
  if (!b.wanted(name)) return;
  std::vector<int32_t> targets(static_cast<size_t>(rows));
  for (size_t i = 0; i < targets.size(); ++i) targets[i] = static_cast<int32_t>(i * 7919 % static_cast<size_t>(words));
  const CrossEntropy op{.logits = b.noise(acc, {rows, words}),
                        .targets = b.ids(targets),
                        .numbers = b.numbers(1.0 / static_cast<double>(rows)),
                        .ce_weight = 1,
                        .ce = b.zeros(DType::f64, {1}),
                        .dlogits = b.zeros(act, {rows, words})};
  b.measure(name, op, 6.0 * static_cast<double>(rows * words), Unit::giga_byte);
  b.release();
}

void router(Bench& b, int64_t experts) {
  const int64_t T = 16384, D = 2048;
  const std::string name = fmt::format("router E {}", experts);
  if (!b.wanted(name)) return;
  const Tensor x = b.noise(act, {T, D}), weight = b.noise(acc, {experts, D}), logits = b.noise(acc, {T, experts});
  const double flop = 2.0 * static_cast<double>(T * D * experts);
  b.measure(name + " forward", RouterLinear{.x = x, .weight = weight, .logits = logits}, flop, Unit::tera_flop);
  b.measure(name + " backward",
            RouterLinearBackward{.dlogits = logits,
                                 .x = x,
                                 .weight = weight,
                                 .dx = b.zeros(acc, {T, D}),
                                 .dweight = b.zeros(acc, {experts, D})},
            2 * flop, Unit::tera_flop);
  b.release();
}

void run(const char* filter) {
  Bench b(filter, {});
  fmt::print("{}\n", b.device().description());
  dense(b);
  Bench by_cublas(filter, {.grouped_gemm = GroupedGemm::cublas});
  for (const auto& [experts, inputs, outputs] :
       {std::tuple<int64_t, int64_t, int64_t>{32, 2048, 2048}, {32, 1024, 2048}, {128, 2048, 1024}}) {
    for (const bool even : {true, false}) {
      grouped(b, "device", experts, inputs, outputs, even);
      grouped(by_cublas, "cublas", experts, inputs, outputs, even);
    }
  }
  attention(b, 8, 2048, 16, 4, 128);
  attention(b, 8, 2048, 16, 16, 128);
  attention(b, 8, 2048, 16, 4, 64);
  attention(b, 8, 2048, 16, 4, 96);
  attention(b, 2, 8192, 16, 4, 128);
  attention(b, 8, 2048, 8, 2, 256);
  cross_entropy(b, 4096, 32000);
  cross_entropy(b, 2048, 151936);
  for (const int64_t experts : {32, 128, 256}) router(b, experts);
  cache_attention(b, 64, 2048);
  cache_attention(b, 1, 8192);
}

}  // namespace
}  // namespace strand

int main(int argc, char** argv) {
  try {
    strand::run(argc > 1 ? argv[1] : "");
  } catch (const strand::Error& error) {
    fmt::print(stderr, "cuda_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
