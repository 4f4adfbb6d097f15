#pragma once
// Turns the tensors of a Hugging Face model directory into ours. Every tensor in the directory is used, or left out
// with a note that says why, or refused.
#include <string>
#include <vector>

#include "checkpoint/tensor_source.h"
#include "export/model_config.h"

namespace strand::hf {

/// Elements of a tensor that are read and compared at a time.
inline constexpr int64_t compared_elements = int64_t{1} << 16;

/// Throws Error when `config` claims more layers or experts than `source` can hold. It is called before a list of them
/// is made, which could be very long.
void require_plausible(const Family& family, const Config& config, const TensorSource& source);

/// Treats a tied model whose file has a head of its own as transformers 5 does. A head that equals the embedding is a
/// copy of it. A head that differs makes the model untied (tied_embeddings becomes false). Returns the warning about
/// that, or
/// "".
std::string settle_head(const Family& family, Config& config, const TensorSource& source);

struct ImportedTensors {
  std::vector<NamedTensor> tensors;  ///< ours, in f32
  std::vector<std::string> notes;    ///< for people: what was left out, and why
};

/// Our tensors, read from a directory of the class in either layout (one tensor for each expert, or stacked
/// ones). Throws Error when a tensor is missing or has another shape, when there is one that the class does not have,
/// and when one that has to be constant is not. `source` and `foreign.family` outlive the result.
ImportedTensors tensors_for_import(const ForeignConfig& foreign, const TensorSource& source);

/// Whether the tensor `theirs` is there in every layer of its rule, and zero.
bool is_all_zero(const Family& family, const Config& config, const TensorSource& source, const std::string& theirs);

}  // namespace strand::hf
