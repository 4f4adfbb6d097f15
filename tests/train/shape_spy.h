#pragma once
// A backend that hands every operation of a real step to its check() once more with one thing of one tensor changed,
// and notes what was accepted: a wrong number of rows that no check sees would be a read or a write past an end.
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "kernels/ops.h"

namespace strand::test {

/// What was changed and not refused: operation, offset of the tensor in the operation's struct in bytes, and the
/// change, which is "dimension 0 larger", "dimension 0 smaller", "type" or "other floating-point type".
using Accepted = std::set<std::string>;
inline std::string key(const std::string& operation, size_t offset, const std::string& change) {
  return operation + ", byte " + std::to_string(offset) + ": " + change;
}

class ShapeSpy final : public Ops {
 public:
  explicit ShapeSpy(std::unique_ptr<Ops> behind) : Ops(behind->device()), behind_(std::move(behind)) {}
  const char* name() const override { return behind_->name(); }

#define STRAND_EXAMINE_AND_RUN(Name, family) \
  void run(const Name& op) override {        \
    examine(#Name, op);                      \
    (*behind_)(op);                          \
  }
  STRAND_FOR_EACH_OP(STRAND_EXAMINE_AND_RUN)
#undef STRAND_EXAMINE_AND_RUN

  Accepted accepted;
  std::set<std::string> seen;  ///< operations

 private:
  /// Where tensors lie in the struct of an operation. Every struct is plain data, so that a tensor is found by its
  /// contents: an address, a known type, dimensions above 0 up to its rank and zeros behind.
  static std::vector<size_t> tensors_in(const unsigned char* bytes, size_t size) {
    std::vector<size_t> offsets;
    for (size_t at = 0; at + sizeof(Tensor) <= size;) {
      Tensor t;
      std::memcpy(static_cast<void*>(&t), bytes + at, sizeof(Tensor));
      if (is_tensor(t)) offsets.push_back(at);
      at += is_tensor(t) ? sizeof(Tensor) : alignof(Tensor);
    }
    return offsets;
  }
  static bool is_tensor(const Tensor& t) {
    const int type = static_cast<int>(t.dtype);
    if (reinterpret_cast<uintptr_t>(t.data) < 4096 || type > static_cast<int>(DType::u8)) return false;
    const int rank = t.shape.rank();
    if (rank < 1 || rank > Shape::max_rank) return false;
    for (int i = 0; i < Shape::max_rank; ++i)
      if (i < rank ? t.shape[i] < 0 || t.shape[i] > (1 << 30) : t.shape[i] != 0) return false;
    return true;
  }
  static Shape with_dimension(const Shape& shape, int changed, int64_t size) {
    int64_t d[Shape::max_rank] = {};
    for (int i = 0; i < shape.rank(); ++i) d[i] = i == changed ? size : shape[i];
    switch (shape.rank()) {
      case 1:
        return {d[0]};
      case 2:
        return {d[0], d[1]};
      case 3:
        return {d[0], d[1], d[2]};
      default:
        return {d[0], d[1], d[2], d[3]};
    }
  }

  template <typename Op>
  void examine(const std::string& name, const Op& op) {
    static_assert(std::is_trivially_copyable_v<Op>);
    seen.insert(name);
    const std::vector<size_t> offsets = tensors_in(reinterpret_cast<const unsigned char*>(&op), sizeof(Op));
    std::string form = name;
    for (const size_t at : offsets) form += " " + std::to_string(at);
    if (++examined_[form] > 4) return;  // of each set of tensors that are given
    for (size_t n = 0; n < offsets.size(); ++n) {
      const auto attempt = [&](const std::string& what, const auto& change) {
        Op changed = op;
        Tensor t;
        unsigned char* place = reinterpret_cast<unsigned char*>(&changed) + offsets[n];
        std::memcpy(static_cast<void*>(&t), place, sizeof(Tensor));
        change(t);
        std::memcpy(place, static_cast<const void*>(&t), sizeof(Tensor));
        try {
          changed.check();
          accepted.insert(key(name, offsets[n], what));
        } catch (const Error&) {
        }
      };
      Tensor original;
      std::memcpy(static_cast<void*>(&original), reinterpret_cast<const unsigned char*>(&op) + offsets[n],
                  sizeof(Tensor));
      for (int d = 0; d < original.shape.rank(); ++d) {
        const std::string dimension = "dimension " + std::to_string(d);
        attempt(dimension + " larger", [&](Tensor& t) { t.shape = with_dimension(t.shape, d, t.shape[d] + 1); });
        if (original.dim(d) == 0) continue;
        attempt(dimension + " smaller", [&](Tensor& t) { t.shape = with_dimension(t.shape, d, t.shape[d] - 1); });
      }
      attempt("type", [](Tensor& t) { t.dtype = t.dtype == DType::i32 ? DType::f32 : DType::i32; });
      attempt("other floating-point type",
              [](Tensor& t) { t.dtype = t.dtype == DType::f64 ? DType::f32 : DType::f64; });
    }
  }

  std::unique_ptr<Ops> behind_;
  std::map<std::string, int> examined_;
};

}  // namespace strand::test
