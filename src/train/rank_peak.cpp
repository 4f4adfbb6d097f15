#include "train/rank_peak.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace strand {

double measure_peak_of_ranks(Device& device, ControlChannel& hosts, PeakKind kind, int rounds) {
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    hosts.barrier();
    const std::vector<double> flops = hosts.all_gather(device.measure_peak(kind, 1).flops);
    best = std::max(best, std::accumulate(flops.begin(), flops.end(), 0.0));
  }
  return best;
}

}  // namespace strand
