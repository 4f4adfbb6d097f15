#include "model/backend.h"

#include <omp.h>

#include "core/cores.h"
#include "core/error.h"
#include "kernels/cpu/backend.h"
#include "kernels/plan/plan_ops.h"
#include "kernels/reference/reference_ops.h"

namespace strand {

std::unique_ptr<Ops> make_backend(const RunConfig& run) {
  omp_set_num_threads(threads_for(run.threads));
  switch (run.device) {
    case DeviceKind::cpu:
      return make_cpu_ops();
    case DeviceKind::reference:
      return std::make_unique<ReferenceOps>();
    case DeviceKind::plan:
      return std::make_unique<PlanOps>(make_cpu_ops()->row_alignment());
    case DeviceKind::cuda:
      break;
  }
  fail("run.device: this build has no cuda backend; use cpu");
}

}  // namespace strand
