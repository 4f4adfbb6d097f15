#include "cli/device_arguments.h"

#include <algorithm>

#include "cli/choice_option.h"
#include "cli/number_option.h"
#include "model/backend.h"

namespace strand::cli {

namespace {
/// This machine with all of its cores, whatever number of threads the configuration gives to a rank.
DeviceSpec this_cpu(RunConfig run, int64_t ranks) {
  run.threads = 0;
  run.device = DeviceKind::cpu;
  const std::unique_ptr<Device> device = make_device(run);
  constexpr int rounds = 7;
  return cpu_device({.bf16_flops = device->measure_peak(PeakKind::bf16, rounds).flops,
                     .fp32_flops = device->measure_peak(PeakKind::fp32, rounds).flops,
                     .memory_bytes = static_cast<double>(device->available_memory().bytes),
                     .traits = device->traits()},
                    ranks);
}
}  // namespace

DeviceSpec DeviceArguments::device(const RunConfig& run, int64_t ranks) const {
  DeviceSpec d = name == "cpu" ? this_cpu(run, std::min(ranks, ranks_per_host.value_or(ranks))) : find_device(name);
  if (flops) d.bf16_flops = d.fp32_flops = *flops;
  d.memory_bytes = memory.value_or(d.memory_bytes);
  d.memory_bandwidth = memory_bandwidth.value_or(d.memory_bandwidth);
  d.link_bandwidth = link.value_or(d.link_bandwidth);
  d.network_bandwidth = network.value_or(d.network_bandwidth);
  d.message_seconds = message_seconds.value_or(d.message_seconds);
  d.per_host = ranks_per_host.value_or(d.per_host);
  return d;
}

void add_device_arguments(CLI::App& command, DeviceArguments& a) {
  std::vector<std::string> names = device_names();
  names.push_back("cpu");
  CLI::Option* device =
      command.add_option("--device", a.name, "Estimate the time of a step on this device; cpu: this machine")
          ->type_name(choice_text(names));
  // These limits are far beyond any machine, and products of such numbers do not overflow.
  constexpr double least = 1e-12, most = 1e30;
  const auto positive = [&](const char* option, std::optional<double>& value, const char* help) {
    add_number(command, option, value, least, most, help)->needs(device);
  };
  add_number(command, "--efficiency", a.efficiency, 1e-6, 1.0,
             "Share of the peak that matrix products reach (default 0.5)")
      ->needs(device);
  positive("--flops", a.flops, "Its peak, FLOP/s");
  positive("--memory", a.memory, "Its memory, bytes");
  positive("--memory-bandwidth", a.memory_bandwidth, "Bytes a second between it and its memory");
  positive("--link", a.link, "Bytes a second from it to others of its host");
  positive("--network", a.network, "Bytes a second from it to other hosts");
  positive("--message-seconds", a.message_seconds, "Latency of one message");
  add_number(command, "--ranks-per-host", a.ranks_per_host, int64_t{1}, int64_t{1'000'000},
             "Consecutive ranks on one host")
      ->needs(device);
}

}  // namespace strand::cli
