#include "report/device_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/nearest.h"
#include "kernels/cuda/backend.h"

namespace strand {

namespace {
constexpr double giga = 1e9, tera = 1e12, micro = 1e-6;

// The time of a message before its first byte moves, the library's part included. It is a few microseconds on NVLink
// and on InfiniBand.
constexpr double gpu_message = 5 * micro;

const std::array<DeviceSpec, 4>& devices() {
  static const std::array<DeviceSpec, 4> table = {{
      // NVIDIA A100 datasheet (2021), SXM 80 GB: 312 TFLOPS bf16, 19.5 fp32, 2,039 GB/s, NVLink 600 GB/s both ways.
      // DGX A100 datasheet: 8 GPUs, 8 x 200 Gb/s InfiniBand for them. 108 multiprocessors (SMs).
      {"a100", 312 * tera, 19.5 * tera, 80 * giga, 2039 * giga, 300 * giga, 25 * giga, gpu_message, 8,
       cuda_traits(108)},
      // NVIDIA H100 datasheet (2023), SXM: 1,979 TFLOPS bf16 with sparsity = 989.5 without, 67 fp32, 3.35 TB/s, NVLink
      // 900 GB/s both ways. DGX H100 datasheet: 8 GPUs, 8 x 400 Gb/s InfiniBand for them. 132 SMs.
      {"h100", 989.5 * tera, 67 * tera, 80 * giga, 3350 * giga, 450 * giga, 50 * giga, gpu_message, 8,
       cuda_traits(132)},
      // NVIDIA H200 datasheet (2024), SXM: arithmetic and links of the H100; 141 GB, 4.8 TB/s. DGX H200 likewise.
      {"h200", 989.5 * tera, 67 * tera, 141 * giga, 4800 * giga, 450 * giga, 50 * giga, gpu_message, 8,
       cuda_traits(132)},
      // NVIDIA Blackwell architecture brief (2024), HGX B200: 4.5 PFLOPS bf16 with sparsity = 2.25 without, 80 TFLOPS
      // fp32, NVLink 1.8 TB/s both ways. DGX B200 datasheet: 8 GPUs of 180 GB and 8 TB/s, 8 x 400 Gb/s. 148 SMs.
      {"b200", 2250 * tera, 80 * tera, 180 * giga, 8000 * giga, 900 * giga, 50 * giga, gpu_message, 8,
       cuda_traits(148)},
  }};
  return table;
}
}  // namespace

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const DeviceSpec& device : devices()) names.push_back(device.name);
  return names;
}

DeviceSpec find_device(const std::string& name) {
  const auto found =
      std::find_if(devices().begin(), devices().end(), [&](const DeviceSpec& device) { return device.name == name; });
  if (found != devices().end()) return *found;
  std::vector<std::string> names = device_names();
  names.emplace_back("cpu");
  fail("device {} is not in the table: {}{}", name, fmt::join(names, ", "), did_you_mean(name, names));
}

DeviceSpec cpu_device(const CpuHost& host, int64_t ranks) {
  // Two channels of DDR4-3200 move 51 GB/s at best, and about 40 GB/s in practice. What one process sends to another on
  // the same machine is written and read once more, and the two share the memory, so a quarter of that is left. The
  // network is assumed to be 10 Gb/s Ethernet, and a message through shared memory to take a microsecond.
  constexpr double memory = 40 * giga, network = 1.25 * giga, message = 1 * micro;
  const auto share = [&](double whole) { return whole / static_cast<double>(ranks); };
  return {"cpu",
          share(host.bf16_flops),
          share(host.fp32_flops),
          share(host.memory_bytes),
          share(memory),
          share(memory / 4),
          share(network),
          message,
          ranks,
          host.traits};
}

}  // namespace strand
