#pragma once
// A family's tensor rules, written out for one model: every tensor under both names with its shape, and the class's
// form of our tensors, made piece by piece, so that no tensor is ever whole in memory. The way back is tensor_import.h.
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "export/element_reader.h"
#include "export/family.h"

namespace strand::hf {

/// One rule at one layer and expert.
struct MappedTensor {
  const TensorRule* rule;
  std::string ours;  ///< "" for a constant
  std::string theirs;
  std::vector<int64_t> our_shape;
  std::vector<int64_t> their_shape;
  int64_t layer = 0;
  int64_t expert = 0;
};

/// In the order of our layers. `config` is resolved.
std::vector<MappedTensor> map_tensors(const Family& family, const Config& config);

/// {n} and {e} replaced.
std::string name_at(const std::string& pattern, int64_t layer, int64_t expert);

/// Tensors as the class wants them, read from `ours`, which holds exactly our tensors (of any floating-point type).
/// `source` and `family` outlive the result. Throws Error listing what does not fit.
std::vector<NamedTensor> tensors_for_export(const Family& family, const Config& config, const TensorSource& source,
                                            DType dtype);

/// 1 for a vector.
int64_t columns_of(const MappedTensor& t);

/// A tensor of this name, shape and type whose elements are those of `source`.
NamedTensor converted(std::string name, std::vector<int64_t> shape, DType dtype, ElementSource source);

}  // namespace strand::hf
