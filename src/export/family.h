#pragma once
// A family is one of the model classes of Hugging Face transformers. Tables describe it: which of our models it can
// express, how its tensors are named and laid out, and what its config.json says. Export and import use the same
// tables, in opposite directions, so they cannot disagree.
//
// The letters V, D, H, G, A, E, F are those of the configuration; Q = H A, K = G A, S = shared_experts F, W =
// dense_ffn. Of latent attention: n = nope_head_dim, p = rope_head_dim, v = value_head_dim, c = kv_latent.
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

inline constexpr int64_t dead_shared_width = 32;  ///< width of the shared expert without effect that Qwen2-MoE needs

enum class Size {
  none,
  one,
  vocab,
  hidden,
  queries,  ///< Q; in latent attention H (n + p)
  keys,
  head,
  values,           ///< H v, of latent attention as the next four
  query_latent,     ///< q_latent
  key_latent,       ///< c
  latent_and_key,   ///< c + p: the latent, and the rotated key of all heads
  keys_and_values,  ///< H (n + v): n rows of keys and v rows of values a head
  experts,
  expert_ffn,
  shared_ffn,
  dense_ffn,
  dead_ffn
};

/// What export changes about a tensor. Import does the opposite.
enum class Layout {
  same,
  /// Within each head, row i goes to 2i and row i + A/2 to 2i + 1: the class rotates neighbours where we rotate halves.
  rotary_interleaved,
  /// The same within the last p rows: of each head of the queries of latent attention, ...
  latent_queries,
  /// ... and of the projection to the latent and the key.
  latent_and_key,
  /// Of the projection from the latent to keys and values, those of keys, transposed: [H, c, n]. Only GGUF has it.
  latent_keys,
  /// Those of values: [H, v, c]. Only GGUF has it.
  latent_values,
  /// A vector [E] becomes [1, E].
  row
};

enum class Storage { chosen, always_f32 };

/// Where a tensor lies in transformers 5, which stacks the experts of a layer in one tensor. Such tensors are read and
/// never written.
struct Fused {
  std::string name;  ///< [E, parts rows, columns]; "" = the class has none
  int64_t part = 0;  ///< which part of an expert's rows
  int64_t parts = 1;
};

struct TensorRule {
  Scope scope = Scope::model;
  std::string ours;  ///< "" = a constant tensor, which the class needs and our model does not have
  std::string theirs;
  Size rows = Size::none;
  Size columns = Size::none;  ///< none = a vector
  Layout layout = Layout::same;
  Storage storage = Storage::chosen;
  float constant = 0;                        ///< value of every element when `ours` is ""
  bool (*applies)(const Config&) = nullptr;  ///< null = always
  std::vector<std::string> aliases = {};     ///< other names that importing understands
  Fused fused = {};
  /// The rows of other tensors of ours that lie above and below this one in the class's tensor, where that holds
  /// several of ours. Such tensors are read and never written.
  std::vector<Size> rows_above = {}, rows_below = {};
};

/// One key of config.json.
struct ConfigKey {
  std::string name;
  std::function<nlohmann::ordered_json(const Config&)> write;  ///< null: export leaves the key out
  /// Puts the value into the configuration, or throws to refuse it; the caller adds file and key to the message. Null:
  /// importing ignores the key.
  std::function<void(const nlohmann::json&, Config&)> read;
  /// The value that the class takes for the key when it is absent, as JSON text; "" = the key has to be there.
  std::string absent;
  std::vector<std::string> aliases = {};
};

/// A condition on our options. `wanted` completes a sentence that begins with "needs".
struct Requirement {
  std::string wanted;
  bool (*met)(const Config&);
};

/// Says whether the tensor of that name is there in every layer, and zero.
using AllZero = std::function<bool(const std::string& theirs)>;

/// What has to be known to decide whether a tensor without a rule may be left out.
struct LeftoverContext {
  const Config& config;
  const TensorSource& source;
  int64_t prediction_layers = 0;  ///< num_nextn_predict_layers of config.json: layers past the last
};

/// Tensors that are in published files of a class, and that the class itself does not load.
struct LeftoverRule {
  std::string what;  ///< completes a note that begins with "left out: 3 tensors,"
  bool (*matches)(const std::string& name, const LeftoverContext& context);
};

/// The number N in a name that begins with "model.layers.N."; -1 for other names.
int64_t layer_in(const std::string& name);

/// When export writes a class.
enum class Written {
  by_default,  ///< the first such class that can express a model is taken
  on_request,  ///< when the user names it, and for a model that was imported from it
  never        ///< the class is only read
};

struct Family {
  std::string class_name;  ///< "MixtralForCausalLM"
  std::string model_type;  ///< "mixtral"
  std::vector<Requirement> requirements;
  std::vector<TensorRule> tensors;
  std::vector<ConfigKey> keys;
  std::vector<LeftoverRule> leftovers = {};
  /// Options that all models of the class have and no key mentions; null = none.
  void (*implies)(Config&) = nullptr;
  /// Settings that only the tensors tell: an unused shared expert, biases that are all zero. Null = there are none.
  void (*settle)(Config&, const AllZero&) = nullptr;
  /// Warnings at export about other programs than transformers that compute something else. Null = there are none.
  std::vector<std::string> (*caveats)(const Config&) = nullptr;
  Written written = Written::by_default;
};

/// All families, in the order of preference.
const std::vector<Family>& families();

/// The names of the classes that export writes, by default or on request.
std::vector<std::string> written_classes();

/// The class in which a model is exported: `origin`, the class from which it was imported ("" = none), if that can
/// express it, or else the first class that can. Throws Error naming the nearest classes, and for each the options that
/// it would need.
const Family& family_for(const Config& config, const std::string& origin = "");

/// The class that the user asked for. Throws Error when it cannot express the model, with the options that it would
/// need, and when export does not write a class of that name.
const Family& requested_family(const Config& config, const std::string& class_name);

/// Throws Error listing the classes that are known.
const Family& family_of_class(const std::string& class_name, const std::string& where);

}  // namespace strand::hf
