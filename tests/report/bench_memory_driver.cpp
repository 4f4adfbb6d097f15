// bench_memory_driver CONFIG [KEY=VALUE...]: runs `bench` in this process and prints "PROGRAM PLANNED PEAK", in bytes:
// what the process held before the model, what was planned, and the peak of its resident memory (VmHWM).
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "cli/bench_run.h"
#include "config/schema.h"
#include "kernels/cpu/backend.h"
#include "tests/model/counting_device.h"

using namespace strand;

namespace {
uint64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::stoull(line.substr(6));
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return 2;
  try {
    const Config config = load_config(words[0], {words.begin() + 1, words.end()});
    CpuDevice cpu(static_cast<int>(config.run.threads));
    test::CountingDevice device(cpu);
    // The arithmetic limit is not measured: that takes seconds, and the memory it works on is free again before the
    // session has any.
    device.peak = PeakRate{.flops = 1e18, .instruction = "not measured"};
    ProcessGrid self;
    const BenchReport report = cli::run_bench(config, {.steps = 1, .warmup = 0, .profiled = 1}, device, self);
    std::printf("%llu %llu %llu\n", static_cast<unsigned long long>(report.program_bytes),
                static_cast<unsigned long long>(report.planned_bytes),
                static_cast<unsigned long long>(peak_resident_bytes()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
