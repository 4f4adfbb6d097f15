#pragma once
// Runs operations on any backend from double-precision values, and holds what comes back against the reference backend.
//
// A test writes a *body*: a function that makes tensors on a Stage (inputs by name, so that every stage draws the same
// numbers), runs operations and reports tensors. `compare` calls it once on the reference and often on a backend: every
// result must agree with the reference within a tolerance, and those of the backend with one another in every bit.
//
// Inputs are rounded to the type of the backend under test before the reference sees them, so that a tolerance is about
// the arithmetic alone. Outputs start as NaN (ids as −123456789), so that whoever reads what it should have written, or
// does not write what it should, shows. Every tensor stands between guard bytes that are checked at the end.
//
// The backend runs several times, in every way in which it may execute the same operations (Execution). So a sum in
// order of arrival is another sum in the next run, on any machine and every time, and the bits tell.
//
// Every test is built for several sets of backends: cpu (backends_cpu.cpp), cuda in emulation and cuda on a GPU
// (backends_cuda.cpp).
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "core/error.h"
#include "kernels/ops.h"

namespace strand::test {

/// Sizes at which a loop over blocks of `limit` shows what it does wrong: one block that is not full, one that is, a
/// second of one item, and two full ones with a tail.
inline std::vector<int64_t> around(int64_t limit) {
  return {limit - 1, limit, limit + 1, limit * 5 / 2};
}

using Values = std::vector<double>;
using Ids = std::vector<int32_t>;

struct Backend {
  std::string name;  ///< "cpu bf16"
  Ops* ops;
  DType act;
};
/// Every backend and activation type that the tests run on.
const std::vector<Backend>& backends();

/// One way in which the backends execute operations: on how many threads, in which order.
struct Execution {
  std::string name;  ///< "3 threads, last block first"
  /// Executions with the same number agree in every bit of every output; others in those that say
  /// Bits::same_on_any_threads.
  int threads = 1;
  /// Begins it; it lasts until the object goes.
  std::function<std::shared_ptr<void>()> begin;
};
const std::vector<Execution>& executions();
/// Called when a body has run on a backend: what the backend has found wrong by itself, or "".
std::string faults_of_backend();
Ops& reference_ops();

/// The values that the type can hold.
double round_to(DType type, double value);

/// How far an output may be from the reference, see `compare`.
struct Tolerance {
  int64_t terms = 1;      ///< length of the longest sum behind one element
  int64_t roundings = 0;  ///< intermediate results that may have been rounded to act
  double cancelled = 0;   ///< size of the numbers that cancel on the way to an element, where larger than any element
};

/// Between which runs of the same shapes an output must have the same bits. cpu_ops.h says which operations cut their
/// work by the number of threads.
enum class Bits : uint8_t { same_on_any_threads, same_on_as_many_threads };

struct Report {
  std::string name;
  DType dtype;
  Values values;
  Tolerance tolerance;
  Bits bits;
};

class Stage {
 public:
  /// `input_type`: values of act inputs are first rounded to it, those of acc inputs to its accumulation type.
  Stage(Ops& ops, DType act, DType input_type, int64_t alignment);
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  // ---- inputs: normal numbers, a pure function of the name; or given values
  Tensor act(const std::string& name, const Shape& shape, double scale = 1);
  Tensor acc(const std::string& name, const Shape& shape, double scale = 1);
  Tensor act_of(const Shape& shape, const Values& values);
  Tensor acc_of(const Shape& shape, const Values& values);
  Tensor ids_of(const Shape& shape, const Ids& ids);
  /// A f64 scalar that holds 0.5: every term is added to what is there.
  Tensor scalar();
  /// Numbers of a step that is to be applied: target_share 0, learning_rate 0, gradient_scale 1, updates 1, apply 1,
  /// but for those given.
  Tensor numbers(const std::map<StepNumber, double>& given = {});

  // ---- outputs
  Tensor act_out(const Shape& shape);
  Tensor acc_out(const Shape& shape);
  Tensor ids_out(const Shape& shape);

  /// On the reference, the first operation of its kind and set of tensors is also spoiled in each of its tensors, which
  /// its check() must refuse.
  template <typename Op>
  void run(const Op& op) {
    if (act_ == DType::f64) check_that_spoiled_ones_are_refused(op);
    ops_(op);
  }
  Values read(const Tensor& tensor);
  void report(const std::string& name, const Tensor& tensor, Tolerance tolerance = {},
              Bits bits = Bits::same_on_any_threads);

  /// Row blocks start at multiples of this, on every stage of a comparison.
  int64_t alignment() const { return alignment_; }
  DType act_type() const { return act_; }
  DType input_type() const { return input_type_; }
  const std::vector<Report>& reports() const { return reports_; }
  /// "" or which tensor was written out of bounds.
  std::string broken_guard();

 private:
  struct Allocation {
    void* memory;
    size_t bytes;  ///< between the guards
  };
  /// Offsets of the tensors in the bytes of an operation: where they point into memory of this stage.
  std::vector<size_t> tensors_in(const void* operation, size_t bytes) const;
  template <typename Op>
  void check_that_spoiled_ones_are_refused(const Op& op) const;
  Tensor allocate(DType dtype, const Shape& shape);
  void store(const Tensor& tensor, const Values& values);
  Tensor fill(const Tensor& tensor, double value);

  Ops& ops_;
  DType act_, input_type_;
  int64_t alignment_;
  std::vector<Allocation> allocations_;
  std::vector<Report> reports_;
};

/// Operations on elements, or with indices, of any shape; and the one that takes any type.
template <typename Op>
constexpr bool takes_any_shape = std::is_same_v<Op, Zero> || std::is_same_v<Op, Copy> || std::is_same_v<Op, Cast> ||
                                 std::is_same_v<Op, SumOfSquares> || std::is_same_v<Op, GatherRows>;
template <typename Op>
constexpr bool takes_any_type = std::is_same_v<Op, Zero>;

/// A tensor as other operations never want it: with one dimension more.
Tensor with_another_dimension(const Tensor& tensor);
/// Reports a test failure.
void should_have_been_refused(const char* operation, size_t tensor, const Tensor& spoiled);

template <typename Op>
void Stage::check_that_spoiled_ones_are_refused(const Op& op) const {
  static_assert(std::is_trivially_copyable_v<Op>);
  static std::set<std::vector<size_t>> seen;
  const std::vector<size_t> tensors = tensors_in(&op, sizeof op);
  if (!seen.insert(tensors).second) return;
  for (size_t i = 0; i < tensors.size(); ++i) {
    Tensor tensor;
    std::memcpy(&tensor, reinterpret_cast<const std::byte*>(&op) + tensors[i], sizeof tensor);
    std::vector<Tensor> spoiled;
    if (!takes_any_type<Op>) spoiled.push_back({tensor.data, DType::u8, tensor.shape});
    if (!takes_any_shape<Op> && tensor.shape.rank() < Shape::max_rank)
      spoiled.push_back(with_another_dimension(tensor));
    for (const Tensor& bad : spoiled) {
      Op wrong = op;
      std::memcpy(reinterpret_cast<std::byte*>(&wrong) + tensors[i], &bad, sizeof bad);
      bool refused = false;
      try {
        wrong.check();
      } catch (const Error&) {
        refused = true;
      }
      if (!refused) should_have_been_refused(typeid(Op).name(), i, bad);
    }
  }
}

using Body = std::function<void(Stage&)>;

/// Ids must be equal. A floating-point element x with reference r must satisfy
///   |x − r| ≤ u |r| + ((8 + 4 √terms) 2⁻²⁴ + roundings · u_act) · max(|r| over the tensor, cancelled)
/// u = 2⁻⁸, half a unit in the last place, for a bf16 output, else 0; u_act likewise, or 2⁻²⁴ where act is f32. 2⁻²⁴ is
/// half a unit of f32; the rounding errors of a sum of n terms of random sign walk as √n.
/// `alignment`: row blocks start at multiples of it and of the backend's own.
void compare(const Backend& backend, const Body& body, int64_t alignment = 1);
/// On every backend.
void compare_all(const Body& body, int64_t alignment = 1);

/// Runs the body on the reference with inputs rounded as `stage` rounds them, and returns the values of what it
/// reports: for inputs of an operation that are themselves the output of another.
std::vector<Values> reference_values(const Stage& stage, const Body& body);

}  // namespace strand::test
