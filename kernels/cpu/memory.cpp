// Construction, memory, and the operations that only move numbers.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/arena.h"
#include "core/error.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {
namespace {

// Large blocks ask for huge pages: weights are read once a step, so small pages would miss the TLB all the time.
constexpr size_t huge_page = size_t{2} << 20;

}  // namespace

CpuOps::CpuOps() : gemm_(std::make_unique<CpuGemm>()) {}
CpuOps::~CpuOps() = default;

void* CpuOps::allocate(size_t bytes) {
  const bool large = bytes >= 2 * huge_page;
  const size_t unit = large ? huge_page : Arena::alignment;
  require(bytes <= SIZE_MAX - unit, "{} bytes of memory asked for: a size went wrong", bytes);
  const size_t rounded = std::max(unit, (bytes + unit - 1) / unit * unit);
  void* memory = std::aligned_alloc(unit, rounded);
  require(memory != nullptr,
          "out of memory: {:.2f} GiB asked for; a smaller micro-batch, model or recompute setting helps",
          static_cast<double>(bytes) / (1 << 30));
  if (large) madvise(memory, rounded, MADV_HUGEPAGE);  // a hint: where it is refused, pages are small and all is well
  return memory;
}

void CpuOps::deallocate(void* memory) noexcept {
  std::free(memory);
}

void CpuOps::upload(const void* host, const Tensor& device) {
  if (device.bytes() > 0) std::memcpy(device.data, host, device.bytes());
}

void CpuOps::download(const Tensor& device, void* host) {
  if (device.bytes() > 0) std::memcpy(host, device.data, device.bytes());
}

void CpuOps::run(const Zero& op) {
  std::byte* to = static_cast<std::byte*>(op.x.data);
  for_blocks(static_cast<int64_t>(op.x.bytes()), block_sizes::copied_bytes, [&](int64_t begin, int64_t end, int64_t) {
    std::memset(to + begin, 0, static_cast<size_t>(end - begin));
  });
}

void CpuOps::run(const Copy& op) {
  if (op.from.data == op.to.data) return;
  const std::byte* from = static_cast<const std::byte*>(op.from.data);
  std::byte* to = static_cast<std::byte*>(op.to.data);
  for_blocks(static_cast<int64_t>(op.from.bytes()), block_sizes::copied_bytes,
             [&](int64_t begin, int64_t end, int64_t) {
               std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
             });
}

void CpuOps::run(const Cast& op) {
  dispatch_act(op.from.dtype, [&](auto from) {
    dispatch_act(op.to.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      const From* source = op.from.as<From>();
      To* target = op.to.as<To>();
      for_blocks(op.from.elements(), block_sizes::cast_elements,
                 [&](int64_t begin, int64_t end, int64_t) { convert(source + begin, target + begin, end - begin); });
    });
  });
}

}  // namespace strand
