#pragma once
// The arithmetic limit of this machine, measured: what MFU (model FLOPs utilisation) is a fraction of.
namespace strand {

enum class PeakKind { fp32, bf16 };

struct PeakRate {
  double flops = 0;              ///< FLOP/s of all threads together, 2 per multiply-add
  const char* instruction = "";  ///< what was measured, for people
};

/// Multiply-adds on registers only, on as many OpenMP threads as a parallel region gets, best of several rounds of a
/// few milliseconds (other work on the machine only takes away). bf16: AVX512-BF16 dot products where the CPU has them
/// and the build may use them, otherwise the fp32 rate, as that is what bf16 products then run at. Where `processes` of
/// as many threads share this host, each gets its share of the cores: a round is too short to see that they take turns.
PeakRate measure_peak(PeakKind kind, int rounds = 7, int processes = 1);

}  // namespace strand
