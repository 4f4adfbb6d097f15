#pragma once
// The machine on which a number was measured.
#include <cstdint>
#include <string>

namespace strand {

struct Machine {
  std::string cpu;  ///< "AMD EPYC 9654 (family 25, model 17)"; the name alone does not always tell the kind
  int cores = 0;    ///< that this process may use
  std::string instructions = {};  ///< that the kernels use: "avx2, products avx2"; "" = unknown

  bool operator==(const Machine&) const = default;
};

Machine this_machine();

}  // namespace strand
