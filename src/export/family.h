#pragma once
// A family is one of the model classes of Hugging Face transformers, described by tables: which of our models it can
// express, how its tensors are named and laid out, and what its config.json says. Export and import walk the same
// tables, one from left to right, the other from right to left, so they cannot disagree.
//
// Letters as in the configuration: V, D, H, G, A, E, F; Q = H A, K = G A; S = shared_experts F; W = dense_ffn.
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand {
class TensorSource;
}

namespace strand::hf {

/// How often a tensor occurs. Names hold {n} for the layer and {e} for the expert.
enum class Scope { model, every_layer, dense_layer, moe_layer, expert };

inline constexpr int64_t dead_shared_width = 32;  ///< of the shared expert that Qwen2-MoE insists on

enum class Size { none, one, vocab, hidden, queries, keys, head, experts, expert_ffn, shared_ffn, dense_ffn, dead_ffn };

/// What happens to a tensor on its way out.
enum class Layout {
  same,
  /// Within each head, row i goes to 2i and row i + A/2 to 2i + 1: the class rotates neighbours where we rotate halves.
  rotary_interleaved,
  /// A vector [E] becomes [1, E].
  row
};

enum class Storage { chosen, always_f32 };

/// Where a tensor lies in the memory of transformers 5, which stacks the experts of a layer; read, never written.
struct Fused {
  std::string name;  ///< [E, parts rows, columns]; "" = the class has none
  int64_t part = 0;  ///< which part of an expert's rows
  int64_t parts = 1;
};

struct TensorRule {
  Scope scope = Scope::model;
  std::string ours;  ///< "" = a constant that the class wants and our model does not have
  std::string theirs;
  Size rows = Size::none;
  Size columns = Size::none;  ///< none = a vector
  Layout layout = Layout::same;
  Storage storage = Storage::chosen;
  float constant = 0;                        ///< value of every element when `ours` is ""
  bool (*applies)(const Config&) = nullptr;  ///< null = always
  std::vector<std::string> aliases = {};     ///< other names that importing understands
  Fused fused = {};
};

/// One key of config.json.
struct ConfigKey {
  std::string name;
  std::function<nlohmann::ordered_json(const Config&)> write;  ///< null: export leaves the key out
  /// Takes the value over or refuses it by throwing (the caller adds file and key). Null: importing ignores the key.
  std::function<void(const nlohmann::json&, Config&)> read;
  /// What the class takes the key to be when it is not there, as JSON text; "" = it has to be there.
  std::string absent;
  std::vector<std::string> aliases = {};
};

/// A condition on our options. `wanted` completes "needs ...".
struct Requirement {
  std::string wanted;
  bool (*met)(const Config&);
};

/// Answers whether every tensor of that name, over all layers, is there and zero.
using AllZero = std::function<bool(const std::string& theirs)>;

/// What tells whether a tensor that no rule asks for may be left out.
struct LeftoverContext {
  const Config& config;
  const TensorSource& source;
  int64_t prediction_layers = 0;  ///< num_nextn_predict_layers of config.json: layers past the last
};

/// Tensors that published files of a class hold and the class itself does not load.
struct LeftoverRule {
  std::string what;  ///< completes "left out: 3 tensors, ..."
  bool (*matches)(const std::string& name, const LeftoverContext& context);
};

/// The N of "model.layers.N.", or -1 for other names.
int64_t layer_in(const std::string& name);

struct Family {
  std::string class_name;  ///< "MixtralForCausalLM"
  std::string model_type;  ///< "mixtral"
  std::vector<Requirement> requirements;
  std::vector<TensorRule> tensors;
  std::vector<ConfigKey> keys;
  std::vector<LeftoverRule> leftovers = {};
  /// Options that all models of the class have and no key mentions; null = none.
  void (*implies)(Config&) = nullptr;
  /// What only the tensors tell (an unused shared expert, biases that are all zero); null = nothing.
  void (*settle)(Config&, const AllZero&) = nullptr;
  /// What other programs than transformers make of the model, to be told at export; null = nothing to tell.
  std::vector<std::string> (*caveats)(const Config&) = nullptr;
};

/// In order of preference: the first one that can express a model is taken.
const std::vector<Family>& families();

/// Throws Error naming the nearest classes, and for each the options that it would need.
const Family& family_for(const Config& config);

/// Throws Error listing the classes that are known.
const Family& family_of_class(const std::string& class_name, const std::string& where);

}  // namespace strand::hf
