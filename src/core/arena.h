#pragma once
// An Arena hands out tensors from one block of memory, like a stack: allocate() moves the top up, Scope moves it back.
// The state of an arena of one block is four numbers: base address, capacity, top, and the highest top so far (peak).
// A *growing* arena takes a further block when the last one is full. When all of its blocks are empty, it replaces
// them by one block that is as large as all of them together. Growing arenas are for the row buffers of experts, whose
// size follows from routing when experts are spread over processes; such an arena grows until the largest demand has
// come, and then stays as it is.
//
// A program has three arenas: *model* (weights, gradients, moments; never released), *step* (what forward keeps for
// backward; released when the micro-step ends) and *scratch* (released when the function that asked for the memory
// returns). A *counting* arena has no memory behind its addresses. A run of the real step on counting arenas (with the
// plan backend) gives the sizes that the real arenas need.
#include <cstddef>
#include <cstdint>
#include <functional>
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

  /// Where a growing arena gets its memory. `allocate` throws Error when there is no memory left.
  struct Source {
    std::function<void*(size_t)> allocate;
    std::function<void(void*)> deallocate;
  };

  Arena() = default;
  /// `memory` holds `capacity` bytes, aligned to `alignment`, and outlives the arena.
  Arena(std::string name, void* memory, size_t capacity);
  /// An arena that begins with one block of `capacity` bytes. Its destructor gives back all blocks.
  static Arena growing(std::string name, Source source, size_t capacity);
  ~Arena();
  Arena(Arena&& other) noexcept { swap(other); }
  Arena& operator=(Arena&& other) noexcept {
    swap(other);
    return *this;
  }

  /// An arena of addresses without memory, to count what a step needs. Nobody may read or write at these addresses.
  static Arena counting(std::string name);

  /// `name` appears in error messages and in the table of the peak. Contents are undefined.
  /// Throws Error naming tensor, shape and arena when the capacity is exceeded.
  Tensor allocate(const std::string& name, DType dtype, const Shape& shape);

  /// Moves the top back to the base.
  void release_all() { release({}, 0); }

  size_t used() const { return start_of_block() + top_.offset; }
  size_t peak() const { return peak_; }
  size_t capacity() const;  ///< of all blocks
  const std::string& name() const { return name_; }
  /// The live allocations at the moment of the peak, in address order. A record costs a string for each tensor, so only
  /// a counting arena keeps them. Of any other arena this is empty.
  const std::vector<Record>& peak_records() const { return peak_records_; }

  /// A place in the stack: a block, and an offset in it.
  struct Position {
    size_t block = 0, offset = 0;
  };

  /// Releases on destruction everything allocated since construction.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), top_(arena.top_), live_(arena.live_.size()) {}
    ~Scope() { arena_.release(top_, live_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    Position top_;
    size_t live_;
  };

 private:
  struct Block {
    std::byte* base = nullptr;
    size_t capacity = 0;
  };

  void release(Position top, size_t live) {
    top_ = top;
    live_.resize(live);
  }
  void swap(Arena& other) noexcept;
  size_t start_of_block() const;  ///< bytes in the blocks below the top's
  size_t room() const;            ///< bytes left in the top's block
  void grow(const std::string& name, DType dtype, const Shape& shape);

  std::string name_ = "unnamed";
  std::vector<Block> blocks_ = {{}};
  Source source_;
  Position top_;
  size_t peak_ = 0;
  bool counting_ = false;
  std::vector<Record> live_;
  std::vector<Record> peak_records_;
};

}  // namespace strand
