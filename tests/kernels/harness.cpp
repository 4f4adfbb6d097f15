#include "harness.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/random.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"

namespace strand::test {

namespace {
// AddressSanitizer sees every byte out of bounds by itself, reads included, if nothing lies there.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t guard_bytes = 0;
#else
constexpr size_t guard_bytes = 64;
#endif
constexpr uint8_t guard_value = 0xA5;
constexpr int32_t unwritten_id = -123456789;

Tensor bytes_at(void* memory, size_t offset, size_t bytes) {
  return {static_cast<std::byte*>(memory) + offset, DType::u8, Shape{static_cast<int64_t>(bytes)}};
}
}  // namespace

Ops& reference_ops() {
  static ReferenceOps ops;
  return ops;
}

double round_to(DType type, double value) {
  switch (type) {
    case DType::f32:
      return static_cast<double>(static_cast<float>(value));
    case DType::bf16:
      return static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
    default:
      return value;
  }
}

// ---- Stage ----------------------------------------------------------------------------------------------------------

Stage::Stage(Ops& ops, DType act, DType input_type, int64_t alignment)
    : ops_(ops), act_(act), input_type_(input_type), alignment_(alignment) {}

Stage::~Stage() {
  for (const Allocation& a : allocations_) ops_.device().deallocate(MemoryKind::device, a.memory);
}

Tensor Stage::allocate(DType dtype, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
  void* memory = ops_.device().allocate(MemoryKind::device, std::max<size_t>(1, bytes + 2 * guard_bytes));
  allocations_.push_back({memory, bytes});
  const std::vector<uint8_t> guard(guard_bytes, guard_value);
  ops_.device().upload(guard.data(), bytes_at(memory, 0, guard_bytes));
  ops_.device().upload(guard.data(), bytes_at(memory, guard_bytes + bytes, guard_bytes));
  return {bytes_at(memory, guard_bytes, bytes).data, dtype, shape};
}

std::vector<size_t> Stage::tensors_in(const void* operation, size_t bytes) const {
  std::vector<size_t> offsets;
  for (size_t at = 0; at + sizeof(Tensor) <= bytes; at += alignof(Tensor)) {
    const std::byte* address = nullptr;
    std::memcpy(&address, static_cast<const std::byte*>(operation) + at, sizeof address);
    const auto here = [&](const Allocation& a) {
      const auto* begin = static_cast<const std::byte*>(a.memory) + guard_bytes;
      return address >= begin && address <= begin + a.bytes;
    };
    if (address == nullptr || std::none_of(allocations_.begin(), allocations_.end(), here)) continue;
    // An old address may lie in the padding between two fields; then what follows it is no tensor of the reference.
    Tensor tensor;
    std::memcpy(&tensor, static_cast<const std::byte*>(operation) + at, sizeof tensor);
    const bool type = tensor.dtype == DType::f64 || tensor.dtype == DType::i32 || tensor.dtype == DType::u8;
    if (type && tensor.shape.rank() >= 1 && tensor.shape.rank() <= Shape::max_rank) offsets.push_back(at);
  }
  return offsets;
}

Tensor with_another_dimension(const Tensor& tensor) {
  const Shape& s = tensor.shape;
  Shape longer{1};
  if (s.rank() == 1) longer = {s[0], 1};
  if (s.rank() == 2) longer = {s[0], s[1], 1};
  if (s.rank() == 3) longer = {s[0], s[1], s[2], 1};
  return {tensor.data, tensor.dtype, longer};
}

void should_have_been_refused(const char* operation, size_t tensor, const Tensor& spoiled) {
  FAIL_CHECK(operation << " accepts, as its tensor number " << tensor << ", " << spoiled.to_string());
}

std::string Stage::broken_guard() {
  std::vector<uint8_t> guard(guard_bytes);
  for (size_t i = 0; i < allocations_.size(); ++i) {
    for (size_t offset : {size_t{0}, guard_bytes + allocations_[i].bytes}) {
      ops_.device().download(bytes_at(allocations_[i].memory, offset, guard_bytes), guard.data());
      for (uint8_t byte : guard)
        if (byte != guard_value)
          return "tensor number " + std::to_string(i) + (offset ? " was written beyond its end" : " before its start");
    }
  }
  return "";
}

void Stage::store(const Tensor& tensor, const Values& values) {
  const auto convert = [&]<typename T>(T) {
    std::vector<T> host(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, bf16>)
        host[i] = bf16(static_cast<float>(values[i]));
      else
        host[i] = static_cast<T>(values[i]);
    }
    ops_.device().upload(host.data(), tensor);
  };
  REQUIRE(static_cast<int64_t>(values.size()) == tensor.elements());
  switch (tensor.dtype) {
    case DType::f64:
      return convert(double{});
    case DType::f32:
      return convert(float{});
    case DType::bf16:
      return convert(bf16{});
    case DType::i32:
      return convert(int32_t{});
    default:
      FAIL("a tensor of " << to_string(tensor.dtype));
  }
}

Values Stage::read(const Tensor& tensor) {
  Values values(static_cast<size_t>(tensor.elements()));
  const auto convert = [&]<typename T>(T) {
    std::vector<T> host(values.size());
    ops_.device().download(tensor, host.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, bf16>)
        values[i] = static_cast<double>(static_cast<float>(host[i]));
      else
        values[i] = static_cast<double>(host[i]);
    }
  };
  switch (tensor.dtype) {
    case DType::f64:
      convert(double{});
      break;
    case DType::f32:
      convert(float{});
      break;
    case DType::bf16:
      convert(bf16{});
      break;
    case DType::i32:
      convert(int32_t{});
      break;
    default:
      FAIL("a tensor of " << to_string(tensor.dtype));
  }
  return values;
}

namespace {
Values normal_values(const std::string& name, const Shape& shape, double scale) {
  const uint64_t key = hash_key(20240215, name);
  Values values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * random_normal(key, i);
  return values;
}
}  // namespace

Tensor Stage::act(const std::string& name, const Shape& shape, double scale) {
  return act_of(shape, normal_values(name, shape, scale));
}
Tensor Stage::acc(const std::string& name, const Shape& shape, double scale) {
  return acc_of(shape, normal_values(name, shape, scale));
}
Tensor Stage::act_of(const Shape& shape, const Values& values) {
  Values rounded = values;
  for (double& v : rounded) v = round_to(input_type_, v);
  const Tensor tensor = allocate(act_, shape);
  store(tensor, rounded);
  return tensor;
}
Tensor Stage::acc_of(const Shape& shape, const Values& values) {
  Values rounded = values;
  for (double& v : rounded) v = round_to(strand::acc_of(input_type_), v);
  const Tensor tensor = allocate(strand::acc_of(act_), shape);
  store(tensor, rounded);
  return tensor;
}
Tensor Stage::ids_of(const Shape& shape, const Ids& ids) {
  const Tensor tensor = allocate(DType::i32, shape);
  store(tensor, Values(ids.begin(), ids.end()));
  return tensor;
}
Tensor Stage::scalar() {
  return fill(allocate(DType::f64, {1}), 0.5);
}

Tensor Stage::numbers(const std::map<StepNumber, double>& given) {
  Values values(step_number_count);
  for (const StepNumber one : {StepNumber::gradient_scale, StepNumber::updates, StepNumber::apply})
    values[static_cast<size_t>(place(one))] = 1;
  for (const auto& [number, value] : given) values[static_cast<size_t>(place(number))] = value;
  const Tensor tensor = allocate(DType::f64, {step_number_count});
  ops_.device().upload(values.data(), tensor);
  return tensor;
}

Tensor Stage::fill(const Tensor& tensor, double value) {
  store(tensor, Values(static_cast<size_t>(tensor.elements()), value));
  return tensor;
}
Tensor Stage::act_out(const Shape& shape) {
  return fill(allocate(act_, shape), std::numeric_limits<double>::quiet_NaN());
}
Tensor Stage::acc_out(const Shape& shape) {
  return fill(allocate(strand::acc_of(act_), shape), std::numeric_limits<double>::quiet_NaN());
}
Tensor Stage::ids_out(const Shape& shape) {
  return fill(allocate(DType::i32, shape), unwritten_id);
}

void Stage::report(const std::string& name, const Tensor& tensor, Tolerance tolerance, Bits bits) {
  reports_.push_back({name, tensor.dtype, read(tensor), tolerance, bits});
}

// ---- Comparison -----------------------------------------------------------------------------------------------------

namespace {
bool same_bits(const Values& a, const Values& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return std::bit_cast<uint64_t>(x) == std::bit_cast<uint64_t>(y); });
}

/// The largest error as a multiple of what is allowed. It is infinite where there is a NaN and the reference has none.
double worst_error(const Report& got, const Values& expected, DType act, size_t& where) {
  double largest = got.tolerance.cancelled;
  for (double r : expected)
    if (std::isfinite(r)) largest = std::max(largest, std::abs(r));
  const bool exact = got.dtype == DType::i32;
  const double u_act = act == DType::bf16 ? 0x1p-8 : 0x1p-24;
  const double u_out = got.dtype == DType::bf16 ? 0x1p-8 : 0;
  const double of_largest = (8 + 4 * std::sqrt(static_cast<double>(got.tolerance.terms))) * 0x1p-24 +
                            static_cast<double>(got.tolerance.roundings) * u_act;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double x = got.values[i], r = expected[i];
    if (x == r || (std::isnan(x) && std::isnan(r))) continue;
    const double allowed = exact ? 0 : u_out * std::abs(r) + of_largest * largest;
    double error = std::abs(x - r) / allowed;
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (error > worst) {
      worst = error;
      where = i;
    }
  }
  return worst;
}

void check_against_reference(const Report& got, const Report& expected, DType act) {
  INFO("output " << got.name << " (" << to_string(got.dtype) << ", " << got.values.size() << " elements)");
  REQUIRE(got.name == expected.name);
  REQUIRE(got.values.size() == expected.values.size());
  if (got.values.empty()) return;
  size_t where = 0;
  const double error_over_tolerance = worst_error(got, expected.values, act, where);
  INFO("worst at element " << where << ": " << got.values[where] << ", reference " << expected.values[where]);
  CHECK(error_over_tolerance <= 1);
}

void check_same_bits(const Report& one, const Report& other) {
  INFO("output " << one.name);
  const bool same = one.name == other.name && same_bits(one.values, other.values);
  CHECK(same);
}

std::vector<Report> reports_of(const Body& body, Ops& ops, DType act, DType input_type, int64_t alignment) {
  Stage stage(ops, act, input_type, alignment);
  body(stage);
  const std::string out_of_bounds = stage.broken_guard();
  CHECK(out_of_bounds.empty());
  return stage.reports();
}
}  // namespace

void compare(const Backend& backend, const Body& body, int64_t alignment) {
  INFO("backend " << backend.name);
  const int64_t rows = std::lcm(alignment, backend.ops->device().row_alignment());
  const auto expected = reports_of(body, reference_ops(), DType::f64, backend.act, rows);
  std::vector<Report> first;                      // of all executions
  std::map<int, std::vector<Report>> of_threads;  // the first on each number of threads
  for (const Execution& execution : executions()) {
    INFO(execution.name);
    const std::shared_ptr<void> lasts = execution.begin();
    const auto got = reports_of(body, *backend.ops, backend.act, backend.act, rows);
    CHECK(faults_of_backend() == "");
    REQUIRE(got.size() == expected.size());
    if (first.empty()) first = got;
    const auto& of_same_threads = of_threads.try_emplace(execution.threads, got).first->second;
    for (size_t i = 0; i < got.size(); ++i) {
      const bool any = got[i].bits == Bits::same_on_any_threads;
      check_same_bits(got[i], of_same_threads[i]);
      if (any) check_same_bits(got[i], first[i]);
    }
  }
  for (const auto& [threads, reports] : of_threads) {
    INFO(threads << " threads");
    for (size_t i = 0; i < reports.size(); ++i)
      if (threads == of_threads.begin()->first || reports[i].bits != Bits::same_on_any_threads)
        check_against_reference(reports[i], expected[i], backend.act);
  }
}

void compare_all(const Body& body, int64_t alignment) {
  for (const Backend& backend : backends()) compare(backend, body, alignment);
}

std::vector<Values> reference_values(const Stage& stage, const Body& body) {
  Stage reference(reference_ops(), DType::f64, stage.input_type(), stage.alignment());
  body(reference);
  std::vector<Values> values;
  for (const Report& report : reference.reports()) values.push_back(report.values);
  return values;
}

}  // namespace strand::test
