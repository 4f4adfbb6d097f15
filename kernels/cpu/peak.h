#pragma once
// The arithmetic limit of this machine, measured: what MFU (model FLOPs utilisation) is a fraction of.
namespace strand {

enum class PeakKind { fp32, bf16 };

struct PeakRate {
  double flops = 0;              ///< FLOP/s of all threads together, 2 per multiply-add
  const char* instruction = "";  ///< what was measured, for people
};

/// Multiply-adds on registers only, with the instructions of the level that the kernels run on (isa.h), on as many
/// OpenMP threads as a parallel region gets: the best of several rounds of 30 ms, as other work on the machine only
/// takes away. A round begins when all threads have met, so waking them is not in it. bf16: AVX512-BF16 dot products
/// where the level has them, otherwise the fp32 rate, as that is what bf16 products then run at. Where oneDNN
/// multiplies on the tiles of AMX, whose rate is far above that of registers, the rate of a large product of oneDNN
/// stands for it.
PeakRate measure_peak(PeakKind kind, int rounds = 7);

}  // namespace strand
