#pragma once
// The tensor rules of a family, written out for one model: every tensor with both names and its shape; and our tensors
// in the form of the class, made in pieces, so that no tensor is in memory as a whole. tensor_import.h does the
// opposite.
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "export/element_reader.h"
#include "export/family.h"

namespace strand::hf {

/// One rule, applied to one layer and expert.
struct MappedTensor {
  const TensorRule* rule;
  std::string ours;  ///< "" for a constant
  std::string theirs;
  std::vector<int64_t> our_shape;
  std::vector<int64_t> their_shape;
  int64_t first_row = 0;  ///< of theirs that is ours, where theirs holds several of ours
  int64_t layer = 0;
  int64_t expert = 0;
};

/// All tensors, in the order of our layers. `config` is resolved. `rules` outlive the result.
std::vector<MappedTensor> map_tensors(const std::vector<TensorRule>& rules, const Config& config);

/// The tensor of `source` that becomes `t`. Throws Error when it is not there, or has another shape or type.
ElementSource source_of(const MappedTensor& t, const Config& config, const TensorSource& source);

/// The name that `pattern` has for a layer and an expert, with {n} and {e} replaced.
std::string name_at(const std::string& pattern, int64_t layer, int64_t expert);

/// The tensors of the class, read from `source`, which must hold our tensors and no others, of any floating-point type.
/// `source` and `family` outlive the result. Throws Error that lists what does not fit.
std::vector<NamedTensor> tensors_for_export(const Family& family, const Config& config, const TensorSource& source,
                                            DType dtype);

/// The number of columns; 1 for a vector.
int64_t columns_of(const MappedTensor& t);

/// A tensor of this name, shape and type whose elements are those of `source`.
NamedTensor converted(std::string name, std::vector<int64_t> shape, DType dtype, ElementSource source);

}  // namespace strand::hf
