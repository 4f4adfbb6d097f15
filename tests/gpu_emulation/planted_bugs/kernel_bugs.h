#pragma once
// Slips that people make, one or more for every kernel of the CUDA backend. Each is a small change of the kernel's own
// source: plant_bugs.cpp writes copies of the sources that hold all of them, and one can be switched on in a run.
#include <cstdint>
#include <string>
#include <vector>

namespace planted_bugs {

/// The ways of building the emulation in which a bug has to be seen. In the others it may be seen or not.
enum class SeenBy : uint8_t { every_way, checker };

struct KernelBug {
  std::string file;    ///< of kernels/cuda: where the change is made
  std::string kernel;  ///< that the change breaks: one of this file, or "" for what kernels of several files share
  std::string what;
  std::string after;  ///< the change is made at the first `from` behind this text
  std::string from;
  std::string to;    ///< in which BUG stands for "the bug is switched on"
  std::string test;  ///< the test case (test_planted_bugs.cpp lists them) that has to fail
  SeenBy seen = SeenBy::every_way;
};

// By family, each in a file of its own.
std::vector<KernelBug> row_bugs();        ///< norms, heads, vocabulary, optimizer, sums, casts
std::vector<KernelBug> expert_bugs();     ///< sorting, moving and combining expert rows, and products of them
std::vector<KernelBug> router_bugs();     ///< router, coupling
std::vector<KernelBug> attention_bugs();  ///< attention, with and without a cache
std::vector<KernelBug> host_bugs();       ///< what the host asks of streams and of cuBLAS

/// All of them. A bug's number is its place in this list.
const std::vector<KernelBug>& all();

/// `text`, the source of a file, with all bugs of this file planted. A bug whose text is not found is left out, and
/// its number goes to `missing`.
std::string with_bugs(const std::string& file, std::string text, std::vector<int>& missing);

}  // namespace planted_bugs
