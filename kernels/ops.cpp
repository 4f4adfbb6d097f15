#include "kernels/ops.h"

#include "core/clock.h"

namespace strand {

const char* to_string(OpFamily family) {
  switch (family) {
    case OpFamily::attention:
      return "attention";
    case OpFamily::router:
      return "router";
    case OpFamily::sort:
      return "sort";
    case OpFamily::expert_gemm:
      return "expert GEMM";
    case OpFamily::dense_gemm:
      return "dense GEMM";
    case OpFamily::swiglu:
      return "SwiGLU";
    case OpFamily::combine:
      return "dispatch + combine";
    case OpFamily::head_loss:
      return "head + loss";
    case OpFamily::norm:
      return "norm";
    case OpFamily::optimizer:
      return "optimizer";
    case OpFamily::other:
      return "other";
  }
  return "?";
}

double Ops::profile_start() {
  return now();
}

void Ops::book(OpFamily family, double start) {
  device_.synchronize();
  if (family == OpFamily::dense_gemm) family = dense_gemm_as_;
  profile_->seconds[static_cast<int>(family)] += now() - start;
  ++profile_->calls[static_cast<int>(family)];
}

}  // namespace strand
