// Construction, and the operations that only move numbers.
#include <cstring>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

std::unique_ptr<Ops> ReferenceDevice::make_ops() {
  return std::make_unique<ReferenceOps>(*this);
}

namespace {
Device& process_device() {
  static ReferenceDevice device;
  return device;
}
}  // namespace

ReferenceOps::ReferenceOps() : Ops(process_device()) {}

void ReferenceOps::run(const Zero& op) {
  std::memset(op.x.data, 0, op.x.bytes());  // all bits zero is 0 in every element type
}

void ReferenceOps::run(const Copy& op) {
  std::memmove(op.to.data, op.from.data, op.from.bytes());
}

// act = acc = f64, so nothing is rounded.
void ReferenceOps::run(const Cast& op) {
  const auto from = flat(op.from), to = flat(op.to);
  for (int64_t i = 0; i < from.dim(0); ++i) to(i) = from(i);
}

}  // namespace strand
