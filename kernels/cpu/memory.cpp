// Construction, and the operations that only move numbers.
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

CpuOps::CpuOps(Device& device) : Ops(device), gemm_(std::make_unique<CpuGemm>()), workspace_(device) {}
CpuOps::~CpuOps() = default;

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
