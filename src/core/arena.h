#pragma once
// An Arena hands out tensors from one block of memory, like a stack: allocate() moves the top up, Scope moves it back.
// Its whole state is four numbers: base address, capacity, top, and the highest top so far (peak).
//
// A program has three: *model* (weights, gradients, moments: never released), *step* (what forward keeps for backward:
// released when the step ends) and *scratch* (released when the function that asked returns). A counting arena has no
// memory behind its addresses; running the real step on it (the plan backend) gives the sizes of the real ones.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace strand {

class Arena {
 public:
  static constexpr size_t alignment = 64;  ///< bytes; every tensor starts on a cache line

  struct Record {
    std::string name;
    DType dtype;
    Shape shape;
    size_t offset;  ///< bytes from the base
    size_t bytes;   ///< rounded up to the alignment
  };

  Arena() = default;
  /// `memory` holds `capacity` bytes, aligned to `alignment`, and outlives the arena.
  Arena(std::string name, void* memory, size_t capacity);
  /// Addresses without memory, for counting.
  static Arena counting(std::string name);

  /// `name` appears in error messages and in the table of the peak. Contents are undefined.
  /// Throws Error naming tensor, shape and arena when the capacity is exceeded.
  Tensor allocate(const std::string& name, DType dtype, const Shape& shape);

  /// Moves the top back to the base.
  void release_all() {
    top_ = 0;
    live_.clear();
  }

  size_t used() const { return top_; }
  size_t peak() const { return peak_; }
  size_t capacity() const { return capacity_; }
  const std::string& name() const { return name_; }
  /// The live allocations at the moment of the peak, in address order.
  const std::vector<Record>& peak_records() const { return peak_records_; }
  /// Keeping records costs a string a tensor; only a counting arena does it.
  bool records() const { return counting_; }

  /// Releases on destruction everything allocated since construction.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), top_(arena.top_), live_(arena.live_.size()) {}
    ~Scope() {
      arena_.top_ = top_;
      arena_.live_.resize(live_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t top_;
    size_t live_;
  };

 private:
  std::string name_ = "unnamed";
  std::byte* base_ = nullptr;
  size_t capacity_ = 0;
  size_t top_ = 0;
  size_t peak_ = 0;
  bool counting_ = false;
  std::vector<Record> live_;
  std::vector<Record> peak_records_;
};

}  // namespace strand
