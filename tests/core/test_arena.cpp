// Arenas: a stack of tensors in one block of memory, characterized by base, capacity, top and peak.
#include <cstdlib>
#include <memory>

#include "core/arena.h"
#include "core/error.h"
#include "tests/catch.h"

namespace strand {
namespace {

struct Block {
  explicit Block(size_t bytes) : memory(std::aligned_alloc(Arena::alignment, bytes), &std::free) {}
  std::unique_ptr<void, decltype(&std::free)> memory;
};

TEST_CASE("Tensors follow one another, each on a cache line") {
  Block block(1024);
  Arena arena("test", block.memory.get(), 1024);
  const Tensor a = arena.allocate("a", DType::f32, {3});
  const Tensor b = arena.allocate("b", DType::bf16, {5, 7});
  const Tensor c = arena.allocate("c", DType::f64, {16});
  CHECK(a.data == block.memory.get());
  CHECK(static_cast<std::byte*>(b.data) - static_cast<std::byte*>(a.data) == 64);
  CHECK(static_cast<std::byte*>(c.data) - static_cast<std::byte*>(b.data) == 128);  // 70 bytes, rounded up
  CHECK(arena.used() == 64 + 128 + 128);
  CHECK(b.dtype == DType::bf16);
  CHECK(b.shape == Shape{5, 7});
}

TEST_CASE("A scope gives back what was taken in it, in any nesting; the peak stays") {
  Block block(1024);
  Arena arena("test", block.memory.get(), 1024);
  arena.allocate("kept", DType::u8, {64});
  void* first = nullptr;
  {
    const Arena::Scope outer(arena);
    first = arena.allocate("outer", DType::u8, {64}).data;
    {
      const Arena::Scope inner(arena);
      arena.allocate("inner", DType::u8, {256});
    }
    CHECK(arena.used() == 128);
  }
  CHECK(arena.used() == 64);
  CHECK(arena.peak() == 64 + 64 + 256);
  CHECK(arena.allocate("again", DType::u8, {1}).data == first);
  arena.release_all();
  CHECK(arena.used() == 0);
  CHECK(arena.peak() == 384);
}

TEST_CASE("The capacity can be used to the last byte, and not beyond: the error names tensor, shape and arena") {
  Block block(256);
  Arena arena("scratch", block.memory.get(), 256);
  arena.allocate("half", DType::u8, {128});
  CHECK_THROWS_WITH(arena.allocate("experts.rows", DType::f32, {11, 3}), Catch::Matchers::Contains("experts.rows") &&
                                                                             Catch::Matchers::Contains("[11, 3]") &&
                                                                             Catch::Matchers::Contains("scratch"));
  CHECK(arena.used() == 128);  // a refusal takes nothing
  CHECK_NOTHROW(arena.allocate("other half", DType::u8, {128}));
  CHECK_THROWS_AS(arena.allocate("one more", DType::u8, {1}), Error);
}

TEST_CASE("A counting arena reaches the same peak without memory, and lists what lay there") {
  Block block(4096);
  Arena real("real", block.memory.get(), 4096), counting = Arena::counting("plan");
  for (Arena* arena : {&real, &counting}) {
    arena->allocate("a", DType::f32, {10});
    {
      const Arena::Scope scope(*arena);
      arena->allocate("b", DType::f64, {50});
      arena->allocate("c", DType::i32, {4, 4});
    }
    arena->allocate("d", DType::f32, {1});
  }
  CHECK(counting.peak() == real.peak());
  CHECK(counting.used() == real.used());
  CHECK(real.peak_records().empty());
  const std::vector<Arena::Record>& at_peak = counting.peak_records();
  REQUIRE(at_peak.size() == 3);
  CHECK(at_peak[0].name == "a");
  CHECK(at_peak[1].name == "b");
  CHECK(at_peak[2].name == "c");
  CHECK(at_peak[2].offset == 64 + 448);
  CHECK(at_peak[2].bytes == 64);
  CHECK(at_peak[2].shape == Shape{4, 4});
}

TEST_CASE("A size beyond what a machine can count is refused, and takes nothing") {
  Block block(256);
  Arena real("real", block.memory.get(), 256), counting = Arena::counting("plan");
  const int64_t large = int64_t{1} << 40;
  for (Arena* arena : {&real, &counting}) {
    CHECK_THROWS_AS(arena->allocate("t", DType::f32, {large, large}), Error);
    CHECK_THROWS_AS(arena->allocate("t", DType::u8, {large, large, large, large}), Error);
    CHECK_THROWS_AS(arena->allocate("t", DType::f64, {int64_t{1} << 61}), Error);
    CHECK(arena->used() == 0);
  }
}

TEST_CASE("A growing arena takes further blocks, and one as large once nothing is left in them") {
  size_t live = 0, calls = 0;
  const Arena::Source source{.allocate =
                                 [&](size_t bytes) {
                                   ++calls;
                                   live += 1;
                                   return std::aligned_alloc(Arena::alignment, bytes);
                                 },
                             .deallocate =
                                 [&](void* memory) {
                                   live -= 1;
                                   std::free(memory);
                                 }};
  {
    Arena arena = Arena::growing("rows", source, 256);
    arena.allocate("fits", DType::u8, {128});
    {
      const Arena::Scope scope(arena);
      const Tensor more = arena.allocate("more", DType::u8, {1024});  // 128 left: a second block
      more.as<uint8_t>()[1023] = 1;
      CHECK(live == 2);
      CHECK(arena.used() == 256 + 1024);
      CHECK(arena.peak() == 256 + 1024);
    }
    CHECK(arena.used() == 128);
    {
      const Arena::Scope scope(arena);
      arena.allocate("more again", DType::u8, {1024});
      CHECK(calls == 2);  // the second block again
      CHECK(live == 2);
    }
    arena.release_all();
    const Tensor whole = arena.allocate("all of it", DType::u8, {256 + 1024});
    CHECK(live == 1);
    CHECK(arena.capacity() == 256 + 1024);
    whole.as<uint8_t>()[256 + 1023] = 1;
    const size_t before = calls;
    arena.release_all();
    arena.allocate("again", DType::u8, {256 + 1024});
    CHECK(calls == before);
  }
  CHECK(live == 0);
}

TEST_CASE("A growing arena that cannot grow names tensor, shape, arena and what to change") {
  bool full = false;
  const Arena::Source source{.allocate = [&](size_t bytes) -> void* {
                               if (full) throw Error("no memory");
                               return std::aligned_alloc(Arena::alignment, bytes);
                             },
                             .deallocate = [](void* memory) { std::free(memory); }};
  Arena arena = Arena::growing("step", source, 64);
  full = true;
  CHECK_THROWS_WITH(arena.allocate("experts.gate_up", DType::f32, {77, 5}),
                    Catch::Matchers::Contains("experts.gate_up") && Catch::Matchers::Contains("[77, 5]") &&
                        Catch::Matchers::Contains("step") && Catch::Matchers::Contains("micro_batch_size"));
}

}  // namespace
}  // namespace strand
