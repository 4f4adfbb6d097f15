#pragma once
// How long an optimizer step may take on a device of the table. It is an estimate from counted work and the device's
// stated speeds, good for choosing between layouts. This is the whole model behind it:
//
//   a family of operations   max(FLOPs / (peak · efficiency), bytes / memory bandwidth); the router computes in fp32
//                            whatever the precision, everything else at the peak of its precision
//   a kind of traffic        bytes sent / bandwidth + messages · latency; the bandwidth is that of the host's links
//                            when every group of its kind lies within one host, otherwise that of the network, for all
//                            of its bytes. Hosts hold consecutive ranks, as expert groups do.
//   serial                   all of both, one after the other
//   overlapped               what parallel.overlap can hide at best is taken off: rows (dispatch, combine,
//                            specialization) under the experts' products and SwiGLU, all chunks but one; gradients
//                            under the backward of the last micro-step (two thirds of it), all buckets but one.
//                            Never below computation alone or communication alone.
//
// It ignores that ranks wait for a busier rank, what it takes to start a kernel, that links are shared, and limits of
// memory.
#include <vector>

#include "config/config.h"
#include "model/session.h"
#include "report/device_table.h"

namespace strand {

struct StepEstimate {
  enum class Bound : uint8_t { arithmetic, memory };
  enum class Path : uint8_t { link, network };
  struct Family {
    OpFamily family;
    double seconds = 0;
    Bound bound = Bound::memory;
  };
  struct Transfer {
    Traffic kind;
    RankGroup group;
    Path path = Path::link;
    double seconds = 0;
  };

  DeviceSpec device;
  double efficiency = 0;
  std::vector<Family> families;     ///< those with work
  std::vector<Transfer> transfers;  ///< those with calls
  double compute_seconds = 0;
  double communication_seconds = 0;
  double hidden_seconds = 0;  ///< of communication, at best

  double serial_seconds() const { return compute_seconds + communication_seconds; }
  double overlapped_seconds() const { return serial_seconds() - hidden_seconds; }
};

constexpr const char* to_string(StepEstimate::Bound bound) {
  return bound == StepEstimate::Bound::arithmetic ? "arithmetic" : "memory";
}
constexpr const char* to_string(StepEstimate::Path path) {
  return path == StepEstimate::Path::link ? "link" : "network";
}

/// Whether every group of this kind has all its ranks on one host of `per_host` ranks.
bool within_host(RankGroup group, const GridShape& grid, int64_t per_host);
/// The FLOP/s of a device in matrix products of this precision, as its vendor states them. Throws Error for fp64.
double peak_flops(const DeviceSpec& device, Precision precision);

/// `work`: one step of one rank of `grid`. `efficiency`: the share of the peak that matrix products reach.
StepEstimate estimate_step(const Config& config, const GridShape& grid, const StepWork& work, const DeviceSpec& device,
                           double efficiency);

}  // namespace strand
