// What an exported directory holds: names and shapes as transformers has them (written out here from its sources),
// values in their places, constants, types of config keys; and that it is there whole or not at all.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <set>

#include "export/hf_export.h"
#include "export/hf_import.h"
#include "models.h"
#include "tests/signalled_child.h"

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

std::string layer(int n) {
  return "model.layers." + std::to_string(n) + ".";
}

/// Attention, norms and embeddings of small_config, its width and that of its heads aside, which all classes call the
/// same.
Shapes llama_shapes(int64_t hidden, int64_t head = 6) {
  Shapes s = {
      {"model.embed_tokens.weight", {11, hidden}}, {"model.norm.weight", {hidden}}, {"lm_head.weight", {11, hidden}}};
  for (int n = 0; n < 3; ++n) {
    s[layer(n) + "input_layernorm.weight"] = s[layer(n) + "post_attention_layernorm.weight"] = {hidden};
    s[layer(n) + "self_attn.q_proj.weight"] = {4 * head, hidden};
    s[layer(n) + "self_attn.o_proj.weight"] = {hidden, 4 * head};
    s[layer(n) + "self_attn.k_proj.weight"] = s[layer(n) + "self_attn.v_proj.weight"] = {2 * head, hidden};
  }
  return s;
}
void add_swiglu(Shapes& s, const std::string& block, int64_t width, int64_t hidden) {
  s[block + ".gate_proj.weight"] = s[block + ".up_proj.weight"] = {width, hidden};
  s[block + ".down_proj.weight"] = {hidden, width};
}
void add_experts(Shapes& s, int n, int64_t hidden) {
  s[layer(n) + "mlp.gate.weight"] = {5, hidden};
  for (const char* e : {"0", "1", "2", "3", "4"}) add_swiglu(s, layer(n) + "mlp.experts." + e, 7, hidden);
}

/// Every pair of names holds the same numbers, which no two of our tensors do.
void check_places(const Exported& x, const std::vector<std::pair<std::string, std::string>>& theirs_and_ours) {
  for (const auto& [theirs, ours] : theirs_and_ours) {
    INFO(theirs);
    CHECK(x.theirs(theirs) == x.ours(ours));
  }
}
using Places = std::vector<std::pair<std::string, std::string>>;

/// Layer 2 of every class, without q and k.
Places llama_places() {
  return {{"model.embed_tokens.weight", "embed_tokens.weight"},
          {"lm_head.weight", "lm_head.weight"},
          {"model.norm.weight", "norm.weight"},
          {layer(2) + "input_layernorm.weight", "layers.2.attn_norm.weight"},
          {layer(2) + "post_attention_layernorm.weight", "layers.2.ffn_norm.weight"},
          {layer(2) + "self_attn.v_proj.weight", "layers.2.attn.v_proj.weight"},
          {layer(2) + "self_attn.o_proj.weight", "layers.2.attn.o_proj.weight"}};
}
Places query_places() {
  return {{layer(2) + "self_attn.q_proj.weight", "layers.2.attn.q_proj.weight"},
          {layer(2) + "self_attn.k_proj.weight", "layers.2.attn.k_proj.weight"}};
}
Places swiglu_places(const std::string& theirs, const std::string& ours) {
  return {{theirs + ".gate_proj.weight", ours + ".gate_proj.weight"},
          {theirs + ".up_proj.weight", ours + ".up_proj.weight"},
          {theirs + ".down_proj.weight", ours + ".down_proj.weight"}};
}
}  // namespace

TEST_CASE("MixtralForCausalLM: names, shapes, places") {
  const Exported x(config_of(class_cases[0]));
  Shapes expected = llama_shapes(20);
  for (int n = 0; n < 3; ++n) {
    const std::string block = layer(n) + "block_sparse_moe.";
    expected[block + "gate.weight"] = {5, 20};
    for (const char* e : {"0", "1", "2", "3", "4"}) {
      const std::string expert = block + "experts." + e;
      expected[expert + ".w1.weight"] = expected[expert + ".w3.weight"] = {7, 20};
      expected[expert + ".w2.weight"] = {20, 7};
    }
  }
  CHECK(x.shapes() == expected);
  const std::string e4 = "model.layers.1.block_sparse_moe.experts.4.", ours = "layers.1.moe.experts.4.";
  check_places(x, llama_places());
  check_places(x, query_places());
  check_places(x, {{e4 + "w1.weight", ours + "gate_proj.weight"},
                   {e4 + "w3.weight", ours + "up_proj.weight"},
                   {e4 + "w2.weight", ours + "down_proj.weight"},
                   {"model.layers.1.block_sparse_moe.gate.weight", "layers.1.moe.router.weight"}});
  CHECK(x.config()["num_local_experts"] == 5);
  CHECK(x.config()["intermediate_size"] == 7);
}

TEST_CASE("Qwen3MoeForCausalLM: a dense layer, norms of heads") {
  const Exported x(config_of(class_cases[1]));
  Shapes expected = llama_shapes(20);
  add_swiglu(expected, "model.layers.0.mlp", 10, 20);
  for (int n = 1; n < 3; ++n) add_experts(expected, n, 20);
  for (int n = 0; n < 3; ++n)
    expected[layer(n) + "self_attn.q_norm.weight"] = expected[layer(n) + "self_attn.k_norm.weight"] = {6};
  CHECK(x.shapes() == expected);
  check_places(x, llama_places());
  check_places(x, query_places());
  check_places(x, {{layer(2) + "mlp.gate.weight", "layers.2.moe.router.weight"}});
  check_places(x, swiglu_places("model.layers.0.mlp", "layers.0.mlp"));
  check_places(x, swiglu_places("model.layers.1.mlp.experts.3", "layers.1.moe.experts.3"));
  check_places(x, {{layer(1) + "self_attn.q_norm.weight", "layers.1.attn.q_norm.weight"},
                   {layer(1) + "self_attn.k_norm.weight", "layers.1.attn.k_norm.weight"}});
  CHECK(x.config()["mlp_only_layers"] == nlohmann::json::array({0}));
  CHECK(x.config()["norm_topk_prob"] == false);
  CHECK(x.config()["intermediate_size"] == 10);
  CHECK_FALSE(x.summary.caveats.empty());
}

TEST_CASE("OlmoeForCausalLM: norms over all heads; the width of experts is intermediate_size") {
  const Exported x(config_of(class_cases[2]));
  Shapes expected = llama_shapes(24);
  for (int n = 0; n < 3; ++n) {
    add_experts(expected, n, 24);
    expected[layer(n) + "self_attn.q_norm.weight"] = {24};
    expected[layer(n) + "self_attn.k_norm.weight"] = {12};
  }
  CHECK(x.shapes() == expected);
  check_places(x, llama_places());
  check_places(x, query_places());
  check_places(x, {{layer(1) + "self_attn.q_norm.weight", "layers.1.attn.q_norm.weight"},
                   {layer(1) + "self_attn.k_norm.weight", "layers.1.attn.k_norm.weight"}});
  CHECK(x.config()["intermediate_size"] == 7);
  CHECK(x.config()["clip_qkv"].is_null());
}

TEST_CASE("Qwen2MoeForCausalLM: zero biases and a shared expert that adds nothing") {
  const Exported x(config_of(class_cases[3]));
  Shapes expected = llama_shapes(24);
  add_swiglu(expected, "model.layers.0.mlp", 10, 24);
  for (int n = 0; n < 3; ++n) {
    expected[layer(n) + "self_attn.q_proj.bias"] = {24};
    expected[layer(n) + "self_attn.k_proj.bias"] = expected[layer(n) + "self_attn.v_proj.bias"] = {12};
    if (n == 0) continue;
    add_experts(expected, n, 24);
    add_swiglu(expected, layer(n) + "mlp.shared_expert", 32, 24);
    expected[layer(n) + "mlp.shared_expert_gate.weight"] = {1, 24};
  }
  CHECK(x.shapes() == expected);
  check_places(x, llama_places());
  check_places(x, query_places());
  const auto all = [&](const std::string& name, double value) {
    const std::vector<double> v = x.theirs(name);
    return !v.empty() && std::all_of(v.begin(), v.end(), [&](double element) { return element == value; });
  };
  CHECK(all("model.layers.1.self_attn.q_proj.bias", 0));
  CHECK(all("model.layers.2.mlp.shared_expert.down_proj.weight", 0));
  CHECK_FALSE(all("model.layers.1.mlp.shared_expert_gate.weight", 0));  // zero is NaN in llama.cpp
}

TEST_CASE("Ernie4_5_MoeForCausalLM: rows of q and k for neighbours to rotate, bias [1, E]") {
  const Exported x(config_of(class_cases[4]));
  Shapes expected = llama_shapes(20);
  add_swiglu(expected, "model.layers.0.mlp", 10, 20);
  for (int n = 1; n < 3; ++n) {
    add_experts(expected, n, 20);
    add_swiglu(expected, layer(n) + "mlp.shared_experts", 21, 20);
    expected[layer(n) + "mlp.moe_statics.e_score_correction_bias"] = {1, 5};
  }
  CHECK(x.shapes() == expected);
  check_places(x, llama_places());
  check_places(x, swiglu_places("model.layers.1.mlp.shared_experts", "layers.1.moe.shared"));
  check_places(x, {{"model.layers.1.mlp.moe_statics.e_score_correction_bias", "layers.1.moe.router.bias"},
                   {"model.layers.2.mlp.moe_statics.e_score_correction_bias", "layers.2.moe.router.bias"}});

  // Heads of 6 rows of 20: out[2i] = in[i], out[2i + 1] = in[i + 3]. (With 4 rows or 2 the inverse would do the same.)
  const auto row = [](const std::vector<double>& v, int i) {
    return std::vector<double>(v.begin() + 20 * i, v.begin() + 20 * (i + 1));
  };
  const int from[] = {0, 3, 1, 4, 2, 5};
  for (const auto& [matrix, heads] : {std::pair("q_proj", 4), std::pair("k_proj", 2)}) {
    const std::vector<double> in = x.ours(fmt::format("layers.1.attn.{}.weight", matrix));
    const std::vector<double> out = x.theirs(fmt::format("model.layers.1.self_attn.{}.weight", matrix));
    for (int head = 0; head < heads; ++head)
      for (int i = 0; i < 6; ++i) CHECK(row(out, 6 * head + i) == row(in, 6 * head + from[i]));
  }
  CHECK(x.config()["moe_norm_min"] == 1.0);  // the divisor max(sum, 1) of weights that are not renormalized
  CHECK(x.config()["moe_layer_start_index"] == 1);
  CHECK_FALSE(x.summary.caveats.empty());
}

TEST_CASE("Glm4MoeForCausalLM: sigmoid, bias [E], partial rotation") {
  const Exported x(config_of(class_cases[5]));
  Shapes expected = llama_shapes(20, 8);
  add_swiglu(expected, "model.layers.0.mlp", 10, 20);
  for (int n = 0; n < 3; ++n) {
    expected[layer(n) + "self_attn.q_norm.weight"] = expected[layer(n) + "self_attn.k_norm.weight"] = {8};
    if (n == 0) continue;
    add_experts(expected, n, 20);
    add_swiglu(expected, layer(n) + "mlp.shared_experts", 14, 20);
    expected[layer(n) + "mlp.gate.e_score_correction_bias"] = {5};
  }
  CHECK(x.shapes() == expected);
  check_places(x, llama_places());
  check_places(x, query_places());
  check_places(x, swiglu_places("model.layers.2.mlp.shared_experts", "layers.2.moe.shared"));
  check_places(x, {{"model.layers.2.mlp.gate.e_score_correction_bias", "layers.2.moe.router.bias"}});
  const nlohmann::json c = x.config();
  CHECK(static_cast<int>(8 * c["partial_rotary_factor"].get<double>()) == 6);  // as the class computes it
  CHECK(c["rope_parameters"]["partial_rotary_factor"] == c["partial_rotary_factor"]);
  CHECK(c["routed_scaling_factor"] == 1.5);
  CHECK(c["n_group"] == 1);
  CHECK(c["first_k_dense_replace"] == 1);
  CHECK(c["n_shared_experts"] == 2);
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
    CHECK(c["rope_theta"] == 7000.0);
    CHECK(c["rope_parameters"]["rope_theta"] == 7000.0);
    CHECK(c["rms_norm_eps"] == 3e-6);
    CHECK(c["rope_parameters"]["rope_type"] == (config_of(one).model.yarn() ? "yarn" : "default"));
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
  const StoredModel model;
  Config wider = model.config;
  wider.moe.expert_ffn = 8;
  CHECK_THAT(error_of([&] { hf::export_model(model.checkpoint, wider, model.dir / "out"); }),
             Catch::Contains("[8, 20]"));
  Config fewer = model.config;
  fewer.moe.num_experts = 4;
  CHECK(error_of([&] { hf::export_model(model.checkpoint, fewer, model.dir / "out"); }) != "");
  CHECK_FALSE(fs::exists(model.dir / "out"));
}

namespace {
std::set<std::string> files_in(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}
}  // namespace

TEST_CASE("A disk that fails at any call leaves no directory of that name, or a whole one") {
  const StoredModel model;
  const std::set<std::string> whole = {"config.json", "generation_config.json", "model.safetensors"};
  const int calls = fail_at_each_call([&] { hf::export_model(model.checkpoint, model.config, model.dir / "out"); },
                                      [&] {
                                        const std::string out = model.dir / "out";
                                        if (fs::exists(out)) CHECK(files_in(out) == whole);
                                        CHECK_FALSE(fs::exists(model.dir / ".out.tmp"));
                                        fs::remove_all(out);
                                      });
  CHECK(calls > 15);
}

namespace {
/// A disk at whose call number `call` somebody presses Ctrl-C.
class InterruptedLayer : public FileLayer {
 public:
  explicit InterruptedLayer(int call) : left_(call) {}
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (left_-- == 0) raise(SIGINT);
    return FileLayer::write(descriptor, bytes, count);
  }

 private:
  int left_;
};
}  // namespace

TEST_CASE("An export and a checkpoint that a signal interrupts leave nothing") {
  const StoredModel model;
  hf::export_model(model.checkpoint, model.config, model.dir / "exported");
  for (const int call : {0, 1, 2}) {
    INFO("write " << call);
    CHECK(strand_test::signal_that_ends([&] {
            InterruptedLayer layer(call);
            const InterposedFileLayer interposed(layer);
            hf::export_model(model.checkpoint, model.config, model.dir / "out");
          }) == SIGINT);
    CHECK_FALSE(fs::exists(model.dir / "out"));
    CHECK_FALSE(fs::exists(model.dir / ".out.tmp"));
    CHECK(strand_test::signal_that_ends([&] {
            InterruptedLayer layer(call);
            const InterposedFileLayer interposed(layer);
            hf::import_model(model.dir / "exported", model.dir / "imported", {});
          }) == SIGINT);
    for (const auto& entry : fs::recursive_directory_iterator(model.dir / "imported")) {
      INFO(entry.path());
      CHECK(entry.path().filename() == "checkpoints");
    }
  }
}

TEST_CASE("Nothing is overwritten, leftovers are") {
  const StoredModel model;
  fs::create_directories(model.dir / "taken");
  put(model.dir / "taken/notes.txt", "mine");
  CHECK_THAT(error_of([&] { hf::export_model(model.checkpoint, model.config, model.dir / "taken"); }),
             Catch::Contains("already there"));
  CHECK(get(model.dir / "taken/notes.txt") == "mine");

  fs::create_directories(model.dir / "empty");
  fs::create_directories(model.dir / ".empty.tmp");
  put(model.dir / ".empty.tmp/model-00001-of-00002.safetensors", "half a file");
  hf::export_model(model.checkpoint, model.config, model.dir / "empty/");
  CHECK(files_in(model.dir / "empty").size() == 3);
  CHECK_FALSE(fs::exists(model.dir / ".empty.tmp"));
}
