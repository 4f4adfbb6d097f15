#pragma once
// An architecture is one of the model classes of llama.cpp, whose name stands in a GGUF file. Tables describe it with
// the parts that also describe the classes of Hugging Face (family.h).
#include <string>
#include <vector>

#include "export/family.h"
#include "export/gguf_file.h"

namespace strand::gguf {

/// The key that says how wide an expert is.
enum class ExpertWidth { feed_forward_length, expert_feed_forward_length };

struct Architecture {
  std::string name;  ///< general.architecture, and the first part of the keys about the model
  ExpertWidth expert_width;
  std::vector<hf::Requirement> requirements;
  /// `theirs` are the names in the file. Tensors of experts have one name a layer: the file holds them as one, stacked.
  std::vector<hf::TensorRule> tensors;
  /// Adds the other keys that not all architectures have. `prefix` is the name and a point. Null = there are none.
  void (*add_keys)(const Config&, const std::string& prefix, Metadata&) = nullptr;
};

/// All architectures, in the order of preference: the first one that can express a model is taken.
const std::vector<Architecture>& architectures();

/// Throws Error naming the nearest architectures, and for each the options that it would need.
const Architecture& architecture_for(const Config& config);

/// Adds the keys about the model.
void add_model_keys(const Architecture& architecture, const Config& config, Metadata& metadata);

}  // namespace strand::gguf
