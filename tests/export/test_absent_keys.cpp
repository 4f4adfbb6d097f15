// Keys of config.json that are not there, or there under another name or in another place. The expectation is
// transformers_defaults.json, which scripts/hf_defaults.py makes from transformers itself, and for the classes that
// transformers does not have from what their own code says.
#include <set>

#include "export/model_config.h"
#include "models.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using nlohmann::json;

namespace {
const json& defaults() {
  static const json table = read_json(std::string(STRAND_SOURCE_DIR) + "/tests/export/transformers_defaults.json");
  return table;
}

/// Keys without which a file is refused: the sizes of a model. All files have them.
const std::set<std::string> required = {
    "vocab_size",           "hidden_size",      "num_hidden_layers", "num_attention_heads", "num_experts",
    "num_local_experts",    "n_routed_experts", "moe_num_experts",   "num_experts_per_tok", "moe_k",
    "moe_intermediate_size"};
/// Keys of transformers that do not change what a model computes, or not for the values of other keys that we accept.
const std::set<std::string> without_effect = {"attention_dropout",
                                              "bos_token_id",
                                              "eos_token_id",
                                              "pad_token_id",
                                              "output_router_logits",
                                              "router_aux_loss_coef",
                                              "router_jitter_noise",
                                              "use_cache",
                                              "max_window_layers",
                                              "embedding_dropout",
                                              "head_dim",
                                              "output_dropout",
                                              "pretraining_tp",
                                              "aux_loss_alpha",
                                              "seq_aux",
                                              "mtp_loss_scaling_factor"};

/// config.json of a class as export writes it, with a value that is not the default wherever another is legal.
json config_of_class(const ClassCase& one) {
  const Config config = config_of(one);
  return json::parse(hf::config_json(hf::family_of_class(one.name, ""), config, {}, DType::f32));
}

/// What is read, or why it is refused.
struct Reading {
  std::string error;
  Config config;
  int64_t prediction_layers = 0;
  bool operator==(const Reading& other) const {
    return error == other.error && config.model == other.config.model && config.moe == other.config.moe &&
           config.data.sequence_length == other.config.data.sequence_length &&
           prediction_layers == other.prediction_layers;
  }
};
Reading read(const json& file) {
  Reading out;
  out.error = error_of([&] {
    hf::ForeignConfig foreign = hf::read_config_json(file.dump(), "config.json", 1 << 20);
    out.config = foreign.config;
    out.prediction_layers = foreign.prediction_layers;
  });
  return out;
}

const hf::ConfigKey* key_named(const hf::Family& family, const std::string& name) {
  for (const hf::ConfigKey& key : family.keys)
    if (key.name == name) return &key;
  return nullptr;
}
}  // namespace

TEST_CASE("A key that is not there means what transformers takes it for") {
  for (const ClassCase& one : all_class_cases()) {
    const hf::Family& family = hf::family_of_class(one.name, "");
    const json whole = config_of_class(one);
    REQUIRE(read(whole).error == "");
    for (const auto& [name, value] : defaults()[one.name]["defaults"].items()) {
      INFO(one.name << ": " << name << ", by default " << value);
      const hf::ConfigKey* key = key_named(family, name);
      if (key == nullptr || !key->read) {
        CHECK((without_effect.contains(name) || name == "num_mtp_layers" || name == "num_nextn_predict_layers" ||
               name == "sliding_window"));
        continue;
      }
      json absent = whole, present = whole;
      absent.erase(name);
      for (const std::string& alias : key->aliases) absent.erase(alias);
      if (name == "rope_theta" || name == "partial_rotary_factor") {
        absent["rope_parameters"].erase(name);
        present["rope_parameters"].erase(name);
      }
      present[name] = value;
      const bool is_required = required.contains(name) || (name == "intermediate_size" && key->absent.empty());
      if (is_required) {
        CHECK_THAT(read(absent).error, Contains(name + ": is missing"));
      } else {
        const Reading of_absent = read(absent), of_present = read(present);
        CHECK(of_absent.error == of_present.error);
        CHECK(of_absent == of_present);
      }
    }
  }
}

TEST_CASE("Every key that may be missing is in the table") {
  const std::set<std::string> elsewhere = {"head_dim",
                                           "rope_scaling",
                                           "rope_parameters",
                                           "quantization_config",
                                           "rotary_dim",
                                           "norm_topk_prob",
                                           "router_dtype",
                                           "moe_shared_expert_intermediate_size",
                                           "original_max_position_embeddings",
                                           "moe_layer_freq",
                                           "scoring_func",
                                           "layer_types",
                                           "per_layer_config"};  // absent: no such thing
  for (const ClassCase& one : all_class_cases()) {
    for (const hf::ConfigKey& key : hf::family_of_class(one.name, "").keys) {
      if (!key.read || key.absent.empty()) continue;
      INFO(one.name << ": " << key.name);
      CHECK((elsewhere.contains(key.name) || defaults()[one.name]["defaults"].contains(key.name)));
    }
  }
}

// Else the first test could not tell a default from what the file says.
TEST_CASE("The models of these tests differ from the defaults of their classes") {
  const std::set<std::string> one_value_only = {"hidden_act",
                                                "attention_bias",
                                                "clip_qkv",
                                                "qkv_bias",
                                                "use_bias",
                                                "use_sliding_window",
                                                "n_group",
                                                "topk_group",
                                                "moe_layer_interval",
                                                "decoder_sparse_step",
                                                "scoring_func",
                                                "score_function",
                                                "topk_method",
                                                "mlp_bias",
                                                "moe_layer_freq",
                                                "use_qkv_bias",
                                                "moe_router_enable_expert_bias"};
  // Two values, of which the other class of the same key has the other one.
  const std::set<std::string> two_values = {"tie_word_embeddings", "norm_topk_prob"};
  // Written in full where the default is a shorthand or a size that our models do not have.
  const std::set<std::string> others = {"rope_scaling",         "sliding_window",  "layer_types",
                                        "rope_parameters",      "mlp_only_layers", "moe_layer_start_index",
                                        "first_k_dense_replace"};
  for (const ClassCase& one : all_class_cases()) {
    const hf::Family& family = hf::family_of_class(one.name, "");
    const json whole = config_of_class(one);
    for (const auto& [name, value] : defaults()[one.name]["defaults"].items()) {
      const hf::ConfigKey* key = key_named(family, name);
      if (key == nullptr || !key->read || one_value_only.contains(name) || two_values.contains(name) ||
          others.contains(name))
        continue;
      INFO(one.name << ": " << name);
      CHECK(whole[name] != value);
    }
  }
}

TEST_CASE("Options with two values, and the first MoE layer, when their key is not there") {
  for (const ClassCase& one : all_class_cases()) {
    const json& table = defaults()[one.name]["defaults"];
    json file = config_of_class(one);
    for (const char* key :
         {"tie_word_embeddings", "norm_topk_prob", "moe_layer_start_index", "first_k_dense_replace"}) {
      if (!table.contains(key)) continue;
      INFO(one.name << ": " << key);
      json other = file;
      const bool number = table[key].is_number();
      other[key] = number ? json(2) : json(!table[key].get<bool>());
      json absent = file;
      absent.erase(key);
      json present = file;
      present[key] = table[key];
      CHECK(read(absent) == read(present));
      CHECK_FALSE(read(absent) == read(other));
    }
  }
}

TEST_CASE("A key under its other name; two names that disagree") {
  int names = 0;
  for (const ClassCase& one : all_class_cases()) {
    const hf::Family& family = hf::family_of_class(one.name, "");
    const json whole = config_of_class(one);
    for (const auto& [a, b] : defaults()[one.name]["same_key"].items()) {
      const std::string known = key_named(family, a) ? a : b.get<std::string>();
      const std::string other = known == a ? b.get<std::string>() : a;
      if (known == "num_nextn_predict_layers") continue;  // below
      INFO(one.name << ": " << known << " as " << other);
      json renamed = whole, both = whole;
      renamed[other] = renamed[known];
      renamed.erase(known);
      CHECK(read(renamed) == read(whole));
      both[other] = both[known];
      CHECK(read(both) == read(whole));
      both[other] = both[known].get<int64_t>() + 1;
      CHECK_THAT(read(both).error, Contains(known) && Contains(other));
      ++names;
    }
  }
  CHECK(names == 7);
  json glm = config_of_class(class_cases[5]);
  for (const char* name : {"num_nextn_predict_layers", "num_mtp_layers"}) {
    glm.erase("num_nextn_predict_layers");
    glm[name] = 2;
    CHECK(read(glm).prediction_layers == 2);
    glm.erase(name);
  }
}

// The order in which transformers looks for theta is compared with transformers itself in scripts/hf_parity.py.
TEST_CASE("RoPE's numbers lie beside rope_parameters or inside it, or in rope_scaling") {
  for (const ClassCase& one : all_class_cases()) {
    INFO(one.name);
    const json whole = config_of_class(one);
    const auto theta = [&](const json& beside, const json& parameters, const json& scaling) {
      json file = whole;
      for (const char* key : {"rope_theta", "rope_parameters", "rope_scaling"}) file.erase(key);
      if (!beside.is_null()) file["rope_theta"] = beside;
      if (!parameters.is_null()) file["rope_parameters"] = parameters;
      if (!scaling.is_null()) file["rope_scaling"] = scaling;
      const Reading reading = read(file);
      INFO(reading.error);
      CHECK(reading.error == "");
      return reading.config.model.rope_theta;
    };
    const json type = {{"rope_type", "default"}};
    const auto with = [&](double value) {
      json object = type;
      object["rope_theta"] = value;
      return object;
    };
    const double absent = defaults()[one.name]["defaults"]["rope_theta"];
    CHECK(theta(nullptr, nullptr, nullptr) == absent);
    CHECK(theta(3e3, nullptr, nullptr) == 3e3);
    CHECK(theta(nullptr, with(4e3), nullptr) == 4e3);  // as transformers 5 writes it
    CHECK(theta(3e3, with(4e3), nullptr) == 4e3);
    CHECK(theta(3e3, type, nullptr) == 3e3);
    CHECK(theta(nullptr, type, nullptr) == absent);
    CHECK(theta(nullptr, nullptr, with(5e3)) == 5e3);
    CHECK(theta(3e3, with(4e3), with(5e3)) == 5e3);
    CHECK(theta(3e3, with(4e3), type) == 3e3);
    CHECK(theta(3e3, with(4e3), json::object()) == 4e3);
    json nested = whole;
    nested.erase("rope_scaling");
    nested["rope_parameters"] = {{"full_attention", with(4e3)}, {"sliding_attention", with(5e3)}};
    CHECK_THAT(read(nested).error, Contains("rope_parameters") && Contains("full_attention"));
  }
}

TEST_CASE("The rotated part of a head lies beside rope_parameters or inside it") {
  json file = config_of_class(class_cases[5]);  // Glm4Moe
  const auto fraction = [&](const json& beside, const json& inside) {
    json changed = file;
    changed.erase("partial_rotary_factor");
    changed["rope_parameters"].erase("partial_rotary_factor");
    if (!beside.is_null()) changed["partial_rotary_factor"] = beside;
    if (!inside.is_null()) changed["rope_parameters"]["partial_rotary_factor"] = inside;
    return read(changed).config.model.rope_fraction;
  };
  CHECK(fraction(0.25, nullptr) == 0.25);
  CHECK(fraction(nullptr, 0.75) == 0.75);
  CHECK(fraction(0.25, 0.75) == 0.75);
  CHECK(fraction(nullptr, nullptr) == 0.5);
}

TEST_CASE("Keys of other models that would change what is computed are refused") {
  struct Wrong {
    const char* key;
    json value;
  };
  const std::vector<Wrong> wrongs = {{"quantization_config", {{"quant_method", "fp8"}}},
                                     {"per_layer_config", {{"0", {{"num_attention_heads", 2}}}}}};
  for (const ClassCase& one : all_class_cases()) {
    for (const Wrong& wrong : wrongs) {
      INFO(one.name << ": " << wrong.key);
      json file = config_of_class(one);
      file[wrong.key] = wrong.value;
      CHECK_THAT(read(file).error, Contains(wrong.key));
      file[wrong.key] = nullptr;
      CHECK(read(file).error == "");
    }
  }
  json qwen2 = config_of_class(class_cases[3]);
  qwen2["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  CHECK(read(qwen2).error == "");
  qwen2["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  CHECK_THAT(read(qwen2).error, Contains("layer_types"));
}
