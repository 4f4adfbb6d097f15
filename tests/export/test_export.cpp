// What an exported directory holds: names and shapes as transformers has them (written out here from its sources),
// values in their places, constants, types of config keys; and that it is there whole or not at all.
#include <algorithm>
#include <cerrno>
#include <set>

#include "export/hf_export.h"
#include "models.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

namespace {
using Shapes = std::map<std::string, std::vector<int64_t>>;

struct Exported {
  TemporaryDirectory dir;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<TensorSource> tensors;
  hf::ExportSummary summary;

  explicit Exported(const Config& config, const hf::ExportOptions& options = {}) {
    checkpoint = std::make_unique<Checkpoint>(make_checkpoint(config, dir / "run"));
    summary = hf::export_model(*checkpoint, config, dir / "out", options);
    tensors = std::make_unique<TensorSource>(dir / "out", "model");
  }
  nlohmann::json config() const { return read_json(dir / "out/config.json"); }
  std::vector<double> ours(const std::string& name) const { return numbers(checkpoint->model(), name); }
  std::vector<double> theirs(const std::string& name) const { return numbers(*tensors, name); }
  Shapes shapes() const {
    Shapes out;
    for (const auto& [name, item] : tensors->items()) out[name] = item.entry->shape;
    return out;
  }
};

/// Attention, norms and embeddings of small_config, which all classes call the same.
Shapes llama_shapes() {
  Shapes s = {{"model.embed_tokens.weight", {11, 8}}, {"model.norm.weight", {8}}, {"lm_head.weight", {11, 8}}};
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    s[l + "input_layernorm.weight"] = s[l + "post_attention_layernorm.weight"] = {8};
    s[l + "self_attn.q_proj.weight"] = s[l + "self_attn.o_proj.weight"] = {8, 8};
    s[l + "self_attn.k_proj.weight"] = s[l + "self_attn.v_proj.weight"] = {4, 8};
  }
  return s;
}
void add_swiglu(Shapes& s, const std::string& block, int64_t width) {
  s[block + ".gate_proj.weight"] = s[block + ".up_proj.weight"] = {width, 8};
  s[block + ".down_proj.weight"] = {8, width};
}
void add_experts(Shapes& s, const std::string& layer) {
  s[layer + "mlp.gate.weight"] = {3, 8};
  for (const char* e : {"0", "1", "2"}) add_swiglu(s, layer + "mlp.experts." + e, 6);
}
}  // namespace

TEST_CASE("MixtralForCausalLM: names, shapes, places") {
  const Exported x(config_of(class_cases[0]));
  Shapes expected = llama_shapes();
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string block = std::string(layer) + "block_sparse_moe.";
    expected[block + "gate.weight"] = {3, 8};
    for (const char* e : {"0", "1", "2"}) {
      const std::string expert = block + "experts." + e;
      expected[expert + ".w1.weight"] = expected[expert + ".w3.weight"] = {6, 8};
      expected[expert + ".w2.weight"] = {8, 6};
    }
  }
  CHECK(x.shapes() == expected);
  const std::string e1 = "model.layers.1.block_sparse_moe.experts.2.", ours = "layers.1.moe.experts.2.";
  CHECK(x.theirs(e1 + "w1.weight") == x.ours(ours + "gate_proj.weight"));
  CHECK(x.theirs(e1 + "w3.weight") == x.ours(ours + "up_proj.weight"));
  CHECK(x.theirs(e1 + "w2.weight") == x.ours(ours + "down_proj.weight"));
  CHECK(x.config()["num_local_experts"] == 3);
}

TEST_CASE("Qwen3MoeForCausalLM: a dense layer, norms of heads") {
  const Exported x(config_of(class_cases[1]));
  Shapes expected = llama_shapes();
  add_swiglu(expected, "model.layers.0.mlp", 10);
  add_experts(expected, "model.layers.1.");
  for (const char* name : {"0.self_attn.q_norm", "0.self_attn.k_norm", "1.self_attn.q_norm", "1.self_attn.k_norm"})
    expected[std::string("model.layers.") + name + ".weight"] = {4};
  CHECK(x.shapes() == expected);
  CHECK(x.config()["mlp_only_layers"] == nlohmann::json::array({0}));
  CHECK(x.config()["norm_topk_prob"] == false);
  CHECK(x.config()["intermediate_size"] == 10);
  CHECK_FALSE(x.summary.caveats.empty());
}

TEST_CASE("OlmoeForCausalLM: norms over all heads; the width of experts is intermediate_size") {
  const Exported x(config_of(class_cases[2]));
  Shapes expected = llama_shapes();
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    add_experts(expected, layer);
    expected[layer + std::string("self_attn.q_norm.weight")] = {8};
    expected[layer + std::string("self_attn.k_norm.weight")] = {4};
  }
  CHECK(x.shapes() == expected);
  CHECK(x.config()["intermediate_size"] == 6);
  CHECK(x.config()["clip_qkv"].is_null());
}

TEST_CASE("Qwen2MoeForCausalLM: zero biases and a shared expert that adds nothing") {
  const Exported x(config_of(class_cases[3]));
  Shapes expected = llama_shapes();
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    add_experts(expected, l);
    expected[l + "self_attn.q_proj.bias"] = {8};
    expected[l + "self_attn.k_proj.bias"] = expected[l + "self_attn.v_proj.bias"] = {4};
    add_swiglu(expected, l + "mlp.shared_expert", 32);
    expected[l + "mlp.shared_expert_gate.weight"] = {1, 8};
  }
  CHECK(x.shapes() == expected);
  const auto all = [&](const std::string& name, double value) {
    const std::vector<double> v = x.theirs(name);
    return !v.empty() && std::all_of(v.begin(), v.end(), [&](double element) { return element == value; });
  };
  CHECK(all("model.layers.1.self_attn.q_proj.bias", 0));
  CHECK(all("model.layers.0.mlp.shared_expert.down_proj.weight", 0));
  CHECK_FALSE(all("model.layers.0.mlp.shared_expert_gate.weight", 0));  // zero is NaN in llama.cpp
}

TEST_CASE("Ernie4_5_MoeForCausalLM: rows of q and k for neighbours to rotate, bias [1, E]") {
  const Exported x(config_of(class_cases[4]));
  Shapes expected = llama_shapes();
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    add_experts(expected, l);
    add_swiglu(expected, l + "mlp.shared_experts", 12);
    expected[l + "mlp.moe_statics.e_score_correction_bias"] = {1, 3};
  }
  CHECK(x.shapes() == expected);
  CHECK(x.theirs("model.layers.0.mlp.moe_statics.e_score_correction_bias") == std::vector<double>{0.25, 0.5, 0.75});

  // Heads of 4 rows of 8: out[2i] = in[i], out[2i + 1] = in[i + 2].
  const std::vector<double> in = x.ours("layers.1.attn.q_proj.weight");
  const std::vector<double> out = x.theirs("model.layers.1.self_attn.q_proj.weight");
  const auto row = [](const std::vector<double>& v, int i) {
    return std::vector<double>(v.begin() + 8 * i, v.begin() + 8 * (i + 1));
  };
  const int from[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int i = 0; i < 8; ++i) CHECK(row(out, i) == row(in, from[i]));
  CHECK(x.theirs("model.layers.1.self_attn.v_proj.weight") == x.ours("layers.1.attn.v_proj.weight"));
  CHECK(x.config()["moe_norm_min"] == 1.0);  // the divisor max(sum, 1) of weights that are not renormalized
  CHECK(x.config()["moe_layer_start_index"] == 0);
  CHECK_FALSE(x.summary.caveats.empty());
}

TEST_CASE("Glm4MoeForCausalLM: sigmoid, bias [E], partial rotation") {
  const Exported x(config_of(class_cases[5]));
  Shapes expected = llama_shapes();
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string l = layer;
    add_experts(expected, l);
    add_swiglu(expected, l + "mlp.shared_experts", 6);
    expected[l + "mlp.gate.e_score_correction_bias"] = {3};
    expected[l + "self_attn.q_norm.weight"] = expected[l + "self_attn.k_norm.weight"] = {4};
  }
  CHECK(x.shapes() == expected);
  const nlohmann::json c = x.config();
  CHECK(c["partial_rotary_factor"] == 0.5);
  CHECK(c["rope_parameters"]["partial_rotary_factor"] == 0.5);
  CHECK(c["routed_scaling_factor"] == 1.5);
  CHECK(c["n_group"] == 1);
  CHECK(c["first_k_dense_replace"] == 0);
}

TEST_CASE("Every class: keys that all readers need, each of its own type") {
  for (const ClassCase& one : class_cases) {
    INFO(one.name);
    const Exported x(config_of(one));
    const nlohmann::json c = x.config();
    CHECK(c["architectures"] == nlohmann::json::array({one.name}));
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"})
      CHECK(c[key].is_number_integer());
    for (const char* key : {"rms_norm_eps", "rope_theta", "initializer_range", "attention_dropout"})
      CHECK(c[key].is_number_float());
    CHECK(c["rope_parameters"]["rope_theta"].is_number_float());
    CHECK(c["rope_parameters"]["rope_type"] == "default");
    CHECK(c["tie_word_embeddings"] == false);
    CHECK(c["torch_dtype"] == "float32");
    CHECK(read_json(x.dir / "out/generation_config.json")["do_sample"] == false);
    CHECK(x.summary.class_name == one.name);
  }
}

TEST_CASE("A tied head is exported once") {
  Config config = config_of(class_cases[0]);
  config.model.tied_embeddings = true;
  const Exported x(config);
  CHECK_FALSE(x.shapes().contains("lm_head.weight"));
  CHECK(x.config()["tie_word_embeddings"] == true);
}

TEST_CASE("bf16 rounds weights to nearest even, router and bias stay f32") {
  const Exported x(config_of(class_cases[5]), {.dtype = DType::bf16});
  for (const auto& [name, item] : x.tensors->items()) {
    const bool router = name.ends_with("mlp.gate.weight") || name.ends_with("e_score_correction_bias");
    INFO(name);
    CHECK(item.entry->dtype == (router ? "F32" : "BF16"));
  }
  const std::vector<double> ours = x.ours("layers.0.attn.q_proj.weight");
  const std::vector<double> theirs = x.theirs("model.layers.0.self_attn.q_proj.weight");
  REQUIRE(ours.size() == theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) CHECK(std::abs(ours[i] - theirs[i]) <= std::abs(ours[i]) / 256);
  CHECK(x.config()["torch_dtype"] == "bfloat16");
}

TEST_CASE("Past a size, shards with an index") {
  const Exported x(config_of(class_cases[0]), {.max_shard_bytes = 600});
  CHECK(fs::exists(x.dir / "out/model.safetensors.index.json"));
  CHECK_FALSE(fs::exists(x.dir / "out/model.safetensors"));
  CHECK(x.tensors->files().size() > 3);
  CHECK(x.theirs("model.embed_tokens.weight") == x.ours("embed_tokens.weight"));
}

TEST_CASE("A checkpoint of another model than its configuration says is refused") {
  TemporaryDirectory dir;
  const Config config = config_of(class_cases[0]);
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  Config wider = config;
  wider.moe.expert_ffn = 7;
  CHECK_THAT(error_of([&] { hf::export_model(checkpoint, wider, dir / "out"); }), Catch::Contains("[6, 8]"));
  Config fewer = config;
  fewer.moe.num_experts = 2;
  CHECK(error_of([&] { hf::export_model(checkpoint, fewer, dir / "out"); }) != "");
  CHECK_FALSE(fs::exists(dir / "out"));
}

namespace {
/// Fails system call number `at`.
class FailingLayer : public UnsyncedLayer {
 public:
  explicit FailingLayer(int at) : at_(at) {}
  bool reached() const { return calls_ > at_; }
  int open(const std::string& p, int flags, mode_t mode) override {
    return hit() ? -1 : FileLayer::open(p, flags, mode);
  }
  ssize_t write(int d, const void* b, size_t n) override { return hit() ? -1 : FileLayer::write(d, b, n); }
  int fsync(int) override { return hit() ? -1 : 0; }
  int rename(const std::string& a, const std::string& b) override { return hit() ? -1 : FileLayer::rename(a, b); }
  int mkdir(const std::string& p, mode_t mode) override { return hit() ? -1 : FileLayer::mkdir(p, mode); }

 private:
  bool hit() {
    errno = ENOSPC;
    return calls_++ == at_;
  }
  int at_;
  int calls_ = 0;
};

std::set<std::string> files_in(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}
}  // namespace

TEST_CASE("A disk that fails at any call leaves no directory of that name, or a whole one") {
  TemporaryDirectory dir;
  const Config config = config_of(class_cases[0]);
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  const std::set<std::string> whole = {"config.json", "generation_config.json", "model.safetensors"};
  int calls = 0;
  for (bool reached = true; reached; ++calls) {
    FailingLayer layer(calls);
    const InterposedFileLayer interposed(layer);
    const std::string error = error_of([&] { hf::export_model(checkpoint, config, dir / "out"); });
    reached = layer.reached();
    INFO("call " << calls << ": " << error);
    CHECK(error.empty() != reached);
    if (fs::exists(dir / "out")) CHECK(files_in(dir / "out") == whole);
    CHECK_FALSE(fs::exists(dir / ".out.tmp"));
    fs::remove_all(dir / "out");
  }
  CHECK(calls > 15);
}

TEST_CASE("Nothing is overwritten, leftovers are") {
  TemporaryDirectory dir;
  const Config config = config_of(class_cases[0]);
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  fs::create_directories(dir / "taken");
  put(dir / "taken/notes.txt", "mine");
  CHECK_THAT(error_of([&] { hf::export_model(checkpoint, config, dir / "taken"); }), Catch::Contains("already there"));
  CHECK(get(dir / "taken/notes.txt") == "mine");

  fs::create_directories(dir / "empty");
  fs::create_directories(dir / ".empty.tmp");
  put(dir / ".empty.tmp/model-00001-of-00002.safetensors", "half a file");
  hf::export_model(checkpoint, config, dir / "empty/");
  CHECK(files_in(dir / "empty").size() == 3);
  CHECK_FALSE(fs::exists(dir / ".empty.tmp"));
}
