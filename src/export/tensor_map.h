#pragma once
// A family's tensor rules, written out for one model: every tensor under both names with its shape, and the bytes of
// either form made from the other, piece by piece, so that no tensor is ever whole in memory.
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
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

/// Throws Error when `config` claims more layers or experts than `source` can hold: before a list of them is made.
void require_plausible(const Family& family, const Config& config, const TensorSource& source);

/// Our tensors in f32, read from a directory of the class in either layout (a tensor an expert, or stacked ones).
/// Throws Error when one is missing or has another shape, when there is one that the class does not have, and when one
/// that has to be constant is not.
std::vector<NamedTensor> tensors_for_import(const Family& family, const Config& config, const TensorSource& source);

/// Whether tensor `theirs` is there in every layer of its rule, and zero.
bool is_all_zero(const Family& family, const Config& config, const TensorSource& source, const std::string& theirs);

}  // namespace strand::hf
