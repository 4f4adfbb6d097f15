#include "kernels/cpu/backend.h"

#include <dnnl_version.h>
#include <omp.h>

#include "core/error.h"
#include "kernels/cpu/block_sizes.h"
#include "kernels/cpu/isa.h"

namespace strand {

namespace {
/// From here on a parallel region of this thread has omp_get_max_threads() threads. The operations, and oneDNN, cut
/// their work into parts for so many threads before a region begins, and a part without a thread would never be
/// computed. So variables of OpenMP that allow smaller teams (OMP_DYNAMIC, OMP_MAX_ACTIVE_LEVELS=0) lose their effect.
/// Throws Error when a team stays smaller, as OMP_THREAD_LIMIT cannot be lifted.
void require_whole_teams() {
  omp_set_dynamic(0);
  if (omp_get_max_active_levels() < 1) omp_set_max_active_levels(1);
  const int threads = omp_get_max_threads();
  int started = 0;
#pragma omp parallel
#pragma omp single
  started = omp_get_num_threads();
  require(
      started == threads,
      "{} threads are to compute (run.threads, --threads), but OpenMP starts {} (its limit OMP_THREAD_LIMIT is {}): "
      "ask for fewer threads, or raise the limit",
      threads, started, omp_get_thread_limit());
}
}  // namespace

CpuDevice::CpuDevice(int threads) {
  if (threads > 0) omp_set_num_threads(threads);
  require_whole_teams();
  cpu_level();  // oneDNN can be limited only before it is asked for anything
}

namespace {
/// What oneDNN holds beside the scratchpads that it is given: the machine code that it generates for each shape of a
/// product, with the objects around it, and, for each thread, the blocks that its products pack operands in, which the
/// C library keeps when they are freed. Measured with configs/bench_tiny.yaml: with oneDNN 2.6 on 1 to 8 threads 13 MB
/// in fp32, 10 to 33 MB in bf16; with oneDNN 3.7 on 2 threads 35 MB and 39 MB.
size_t onednn_bytes(int threads) {
  constexpr size_t code = DNNL_VERSION_MAJOR >= 3 ? 24 : 8;  // MiB
  return (code + size_t{3} * static_cast<size_t>(threads)) << 20;
}
}  // namespace

DeviceTraits CpuDevice::traits() const {
  return {.row_alignment = block_sizes::row_alignment,
          .workspaces = cpu_level().workspaces(),
          .library_bytes = onednn_bytes(threads())};
}

std::unique_ptr<Ops> CpuDevice::make_ops() {
  return cpu_level().make_ops(*this);
}

int CpuDevice::threads() const {
  return omp_get_max_threads();
}

PeakRate CpuDevice::measure_peak(PeakKind kind, int rounds) {
  return cpu_level().measure_peak(kind, rounds);
}

std::string CpuDevice::description() const {
  return "instructions of the kernels: " + cpu_isa_text();
}

std::string CpuDevice::arithmetic() const {
  return cpu_isa_text();
}

std::string CpuDevice::bf16_remark() const {
  return strand::bf16_remark();
}

std::unique_ptr<Ops> make_cpu_ops() {
  static CpuDevice device;
  return device.make_ops();
}

}  // namespace strand
