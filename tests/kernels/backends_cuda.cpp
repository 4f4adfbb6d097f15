// The operation tests on the CUDA backend and a real GPU: each twice, because the order in which blocks run is the
// GPU's own affair. Without a usable GPU the program ends with the line "SKIPPED: no usable GPU" and exit status 0.
#include <cstdio>
#include <cstdlib>

#include "harness.h"
#include "kernels/cuda/backend.h"

namespace strand::test {

const std::vector<Backend>& backends() {
  if (cuda_device_count() == 0) {
    std::puts("SKIPPED: no usable GPU");
    std::fflush(stdout);
    std::_Exit(0);
  }
  static const std::unique_ptr<Device> device = make_cuda_device({});
  static const std::unique_ptr<Ops> cuda = device->make_ops();
  static const std::vector<Backend> all = {{"cuda f32", cuda.get(), DType::f32},
                                           {"cuda bf16", cuda.get(), DType::bf16}};
  return all;
}

const std::vector<Execution>& executions() {
  static const auto nothing = [] { return std::shared_ptr<void>(); };
  static const std::vector<Execution> all = {{"first run", 1, nothing}, {"second run", 1, nothing}};
  return all;
}

std::string faults_of_backend() {
  return "";
}

}  // namespace strand::test
