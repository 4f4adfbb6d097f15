// The operation tests on the CUDA backend in emulation: threads and blocks in order, in reverse, and in random orders.
// What the emulation reports (races, accesses out of bounds, barriers that not all threads reach) fails the test.
#include "gpu_emulation/control.h"
#include "harness.h"
#include "kernels/cuda/backend.h"

namespace strand::test {

using gpu_emulation::Order;

const std::vector<Backend>& backends() {
  // Not destroyed: an emulated stream must not outlive main().
  static Device& device = *make_cuda_device({}).release();
  static Ops& cuda = *device.make_ops().release();
  static const std::vector<Backend> all = {{"cuda f32", &cuda, DType::f32}, {"cuda bf16", &cuda, DType::bf16}};
  return all;
}

const std::vector<Execution>& executions() {
  static const std::vector<Execution> all = [] {
    std::vector<Execution> list;
    const auto add = [&](const std::string& name, Order order, uint64_t seed) {
      list.push_back({name, 1, [=]() -> std::shared_ptr<void> {
                        gpu_emulation::set_order(order, seed);
                        return nullptr;
                      }});
    };
    add("threads and blocks in order", Order::first_to_last, 1);
    add("threads and blocks in reverse", Order::last_to_first, 1);
    add("a random order", Order::random, 1);
    return list;
  }();
  return all;
}

std::string faults_of_backend() {
  std::string text;
  for (const gpu_emulation::Report& report : gpu_emulation::take_reports())
    text += report.kind + ": " + report.text + "\n";
  return text;
}

}  // namespace strand::test
