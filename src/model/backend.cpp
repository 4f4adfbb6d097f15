#include "model/backend.h"

#include "core/cores.h"
#include "core/error.h"
#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/plan/plan_ops.h"
#include "kernels/reference/reference_ops.h"

namespace strand {

namespace {
GroupedGemm grouped_gemm(GroupedGemmChoice choice) {
  switch (choice) {
    case GroupedGemmChoice::automatic:
      return GroupedGemm::automatic;
    case GroupedGemmChoice::cublas:
      return GroupedGemm::cublas;
    case GroupedGemmChoice::device:
      return GroupedGemm::device;
  }
  fail("cuda.grouped_gemm: no such choice");
}
}  // namespace

std::unique_ptr<Device> make_device(const RunConfig& run, const CudaConfig& cuda, int local_rank) {
  switch (run.device) {
    case DeviceKind::cpu:
      return std::make_unique<CpuDevice>(threads_for(run.threads));
    case DeviceKind::reference:
      return std::make_unique<ReferenceDevice>();
    case DeviceKind::plan:
      return std::make_unique<PlanDevice>(CpuDevice().traits());
    case DeviceKind::cuda:
      return make_cuda_device(
          {.gpu = cuda_device_count() == 1 ? 0 : local_rank, .grouped_gemm = grouped_gemm(cuda.grouped_gemm)});
  }
  fail("run.device: no such device");
}

}  // namespace strand
