// Import is export backwards; what does not fit is refused by name, and nothing is left behind.
#include "export/hf_export.h"
#include "export/hf_import.h"
#include "models.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

namespace {
/// An exported model whose files a test may spoil.
struct Foreign {
  TemporaryDirectory dir;
  Config config;

  explicit Foreign(const ClassCase& c) : Foreign(config_of(c)) {}
  explicit Foreign(const Config& model) : config(model) {
    const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
    hf::export_model(checkpoint, config, dir / "hf");
  }

  void edit_config(const std::function<void(nlohmann::json&)>& edit) const {
    nlohmann::json c = read_json(dir / "hf/config.json");
    edit(c);
    put(dir / "hf/config.json", c.dump());
  }
  /// Rewrites the tensors; `edit` changes the list.
  void edit_tensors(const std::function<void(std::vector<NamedTensor>&)>& edit) const {
    std::vector<NamedTensor> tensors;
    const TensorSource source(dir / "hf", "model");
    for (const auto& [name, item] : source.items()) {
      NamedTensor& t = tensors.emplace_back();
      t.name = name;
      t.dtype = *item.entry->type;
      t.shape = item.entry->shape;
      const std::string bytes(reinterpret_cast<const char*>(item.bytes().data()), item.bytes().size());
      t.read = [bytes](void* host, size_t offset, size_t count) { std::memcpy(host, bytes.data() + offset, count); };
    }
    edit(tensors);
    write_safetensors(dir / "hf/model.safetensors", tensors);
  }
  std::string refusal(const std::string& out = "imported") const {
    const std::string error = error_of([&] { hf::import_model(dir / "hf", dir / out); });
    CHECK_FALSE(fs::exists(fs::path(dir / out) / "checkpoints" / "step_00000000"));
    return error;
  }
};

NamedTensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& t : tensors)
    if (t.name == name) return t;
  FAIL("no tensor " << name);
  return tensors.front();
}
using Catch::Contains;
}  // namespace

TEST_CASE("Export, import: the same tensors, the same model options; export again: the same bytes") {
  for (const ClassCase& one : class_cases) {
    INFO(one.name);
    const Foreign foreign(one);
    const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
    CHECK(summary.class_name == one.name);
    CHECK(summary.checkpoint == foreign.dir / "imported/checkpoints/step_00000000");
    const Checkpoint before(foreign.dir / "run/step_00000000"), after(summary.checkpoint);
    const Config read = checkpoint_config(after);
    CHECK(read.model == foreign.config.model);
    CHECK(read.moe == foreign.config.moe);
    CHECK(read.data.sequence_length == 16);
    CHECK_FALSE(after.has_optimizer());
    CHECK(after.state().step == 0);
    REQUIRE(before.model().items().size() == after.model().items().size());
    for (const auto& [name, item] : before.model().items()) {
      CHECK(after.model().at(name).entry->shape == item.entry->shape);
      CHECK(numbers(after.model(), name) == numbers(before.model(), name));
    }
    hf::export_model(after, read, foreign.dir / "again");
    CHECK(get(foreign.dir / "again/model.safetensors") == get(foreign.dir / "hf/model.safetensors"));
    CHECK(get(foreign.dir / "again/config.json") == get(foreign.dir / "hf/config.json"));
  }
}

TEST_CASE("What a class insists on and our model lacks goes away again") {
  Config sigmoid = small_config();
  sigmoid.moe.score = RouterScore::sigmoid;  // Glm4Moe without shared expert and without bias
  Config shared = small_config();
  shared.moe.shared_experts = 1;  // Ernie without bias
  for (const Config& config : {sigmoid, shared}) {
    const Foreign foreign(config);
    const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
    CHECK(summary.config.moe == config.moe);
  }
}

TEST_CASE("Stacked experts, as transformers 5 has them in memory") {
  const Foreign foreign(class_cases[0]);
  const std::string before = get(foreign.dir / "hf/model.safetensors");
  foreign.edit_tensors([](std::vector<NamedTensor>& tensors) {
    std::vector<NamedTensor> out;
    std::map<std::string, std::vector<char>> stacked;
    const auto bytes_of = [&](const std::string& name) {
      NamedTensor& t = named(tensors, name);
      std::vector<char> bytes(static_cast<size_t>(t.shape[0] * t.shape[1]) * 4);
      t.read(bytes.data(), 0, bytes.size());
      return bytes;
    };
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      for (const std::string e : {"0", "1", "2"}) {
        const std::string expert = layer + "block_sparse_moe.experts." + e;
        for (const char* part : {".w1.weight", ".w3.weight"}) {
          const auto bytes = bytes_of(expert + part);
          auto& to = stacked[layer + "mlp.experts.gate_up_proj"];
          to.insert(to.end(), bytes.begin(), bytes.end());
        }
        const auto bytes = bytes_of(expert + ".w2.weight");
        auto& to = stacked[layer + "mlp.experts.down_proj"];
        to.insert(to.end(), bytes.begin(), bytes.end());
      }
    }
    for (NamedTensor& t : tensors) {
      if (t.name.find(".experts.") != std::string::npos) continue;
      const size_t block = t.name.find("block_sparse_moe.gate");
      if (block != std::string::npos) t.name.replace(block, std::strlen("block_sparse_moe"), "mlp");
      out.push_back(t);
    }
    for (const auto& [name, bytes] : stacked) {
      const bool down = name.ends_with("down_proj");
      NamedTensor& t = out.emplace_back();
      t.name = name;
      t.shape = down ? std::vector<int64_t>{3, 8, 6} : std::vector<int64_t>{3, 12, 8};
      t.read = [data = bytes](void* host, size_t offset, size_t n) { std::memcpy(host, data.data() + offset, n); };
    }
    tensors = out;
  });
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  const Checkpoint imported(summary.checkpoint);
  hf::export_model(imported, checkpoint_config(imported), foreign.dir / "again");
  CHECK(get(foreign.dir / "again/model.safetensors") == before);

  foreign.edit_config([](nlohmann::json& c) { c["num_local_experts"] = 4; });
  CHECK_THAT(foreign.refusal("more_experts"), Contains("has shape"));
}

TEST_CASE("Tensors that do not fit are named") {
  const Foreign foreign(class_cases[3]);  // Qwen2Moe
  const std::string expert = "model.layers.1.mlp.experts.2.up_proj.weight";
  SECTION("missing") {
    foreign.edit_tensors([&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == expert; }); });
    CHECK_THAT(foreign.refusal(), Contains("missing") && Contains(expert));
  }
  SECTION("of another shape") {
    foreign.edit_tensors([&](auto& t) { named(t, expert).shape = {8, 6}; });
    CHECK_THAT(foreign.refusal(), Contains(expert) && Contains("[8, 6]") && Contains("[6, 8]"));
  }
  SECTION("of integers") {
    foreign.edit_tensors([&](auto& t) { named(t, expert).dtype = DType::i32; });
    CHECK_THAT(foreign.refusal(), Contains(expert) && Contains("I32"));
  }
  SECTION("unknown") {
    foreign.edit_tensors([&](auto& t) {
      t.push_back(tensor_of<float>("model.layers.0.self_attn.o_proj.bias", {8}, std::vector<float>(8, 0)));
    });
    CHECK_THAT(foreign.refusal(), Contains("o_proj.bias"));
  }
  SECTION("a bias that is not zero") {
    const std::string bias = "model.layers.0.self_attn.k_proj.bias";
    foreign.edit_tensors([&](auto& t) { named(t, bias) = tensor_of<float>(bias, {4}, {0, 0, 0, 1e-6f}); });
    CHECK_THAT(foreign.refusal(), Contains(bias) && Contains("not zero"));
  }
  SECTION("buffers of old versions and layers past the last are left out") {
    foreign.edit_tensors([&](auto& t) {
      t.push_back(tensor_of<float>("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, {1, 0.1f}));
      t.push_back(tensor_of<float>("model.layers.2.eh_proj.weight", {1}, {1}));
    });
    CHECK(hf::import_model(foreign.dir / "hf", foreign.dir / "imported").tensors > 0);
  }
}

TEST_CASE("Configurations that our models cannot follow are refused by key") {
  struct Wrong {
    const char* key;
    nlohmann::json value;
    const char* says;
  };
  const auto refuses = [](const ClassCase& one, const Wrong& wrong) {
    const Foreign foreign(one);
    foreign.edit_config([&](nlohmann::json& c) { c[wrong.key] = wrong.value; });
    INFO(wrong.key << " = " << wrong.value);
    CHECK_THAT(foreign.refusal(), Contains("config.json") && Contains(wrong.key) && Contains(wrong.says));
  };
  const ClassCase &mixtral = class_cases[0], &qwen3 = class_cases[1], &olmoe = class_cases[2], &qwen2 = class_cases[3],
                  &ernie = class_cases[4], &glm4 = class_cases[5];
  refuses(mixtral, {"architectures", nlohmann::json::array({"LlamaForCausalLM"}), "LlamaForCausalLM"});
  refuses(mixtral, {"sliding_window", 8, "whole sequence"});
  refuses(mixtral, {"hidden_act", "gelu", "silu"});
  refuses(mixtral, {"hidden_size", "8", "whole number"});
  refuses(mixtral, {"hidden_size", 8.5, "whole number"});
  refuses(mixtral, {"rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e4}}, "yarn"});
  refuses(mixtral, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, "linear"});
  refuses(qwen3, {"attention_bias", true, "false"});
  refuses(qwen3, {"mlp_only_layers", nlohmann::json::array({1}), "first layers"});
  refuses(qwen3, {"decoder_sparse_step", 2, "1"});
  refuses(olmoe, {"clip_qkv", 8.0, "null"});
  refuses(qwen2, {"shared_expert_intermediate_size", 5632, "behind a gate"});
  refuses(ernie, {"moe_norm_min", 0.5, "renormalize"});
  refuses(ernie, {"moe_layer_interval", 2, "1"});
  refuses(ernie, {"use_bias", true, "false"});
  refuses(glm4, {"n_group", 8, "1"});
  refuses(glm4, {"norm_topk_prob", 1, "true nor false"});
}

TEST_CASE("A lying or broken configuration costs no memory") {
  const Foreign foreign(class_cases[0]);
  SECTION("experts by the million") {
    foreign.edit_config([](nlohmann::json& c) { c["num_local_experts"] = 65536, c["num_hidden_layers"] = 4096; });
    CHECK_THAT(foreign.refusal(), Contains("65536 experts"));
  }
  SECTION("a number past 64 bits") {
    foreign.edit_config([](nlohmann::json& c) { c["vocab_size"] = UINT64_MAX; });
    CHECK_THAT(foreign.refusal(), Contains("vocab_size"));
  }
  SECTION("a missing key") {
    foreign.edit_config([](nlohmann::json& c) { c.erase("num_hidden_layers"); });
    CHECK_THAT(foreign.refusal(), Contains("num_hidden_layers: is missing"));
  }
  SECTION("no JSON") {
    put(foreign.dir / "hf/config.json", "{\"architectures\": [\"Mixtral");
    CHECK_THAT(foreign.refusal(), Contains("not valid JSON"));
  }
  SECTION("no configuration") {
    fs::remove(foreign.dir / "hf/config.json");
    CHECK_THAT(foreign.refusal(), Contains("config.json"));
  }
  SECTION("no weights") {
    fs::remove(foreign.dir / "hf/model.safetensors");
    CHECK_THAT(foreign.refusal(), Contains("model.safetensors"));
  }
}

TEST_CASE("Keys that old files leave out mean what transformers takes them for") {
  const Foreign foreign(class_cases[5]);  // Glm4Moe, exported with one half of each head rotated and renormalization
  foreign.edit_config([](nlohmann::json& c) {
    for (const char* key : {"partial_rotary_factor", "rope_parameters", "norm_topk_prob", "n_group", "head_dim"})
      c.erase(key);
  });
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(summary.config.model.rope_fraction == 0.5);
  CHECK(summary.config.moe.renormalize);
  CHECK(summary.config.model.head_dim == 4);
}

TEST_CASE("Where a checkpoint goes") {
  const Foreign foreign(class_cases[0]);
  CHECK(hf::import_model(foreign.dir / "hf", foreign.dir / "a/step_00000000").checkpoint ==
        foreign.dir / "a/step_00000000");
  CHECK_THAT(error_of([&] { hf::import_model(foreign.dir / "hf", foreign.dir / "a/step_00000000"); }),
             Contains("already there"));
  CHECK_THAT(error_of([&] { hf::import_model(foreign.dir / "hf", foreign.dir / "a/step_00000007"); }),
             Contains("step_00000000"));
}

TEST_CASE("Sequences are as long as the model allows, up to a limit") {
  const Foreign foreign(class_cases[0]);
  foreign.edit_config([](nlohmann::json& c) { c["max_position_embeddings"] = 131072, c["sliding_window"] = 4096; });
  CHECK(hf::import_model(foreign.dir / "hf", foreign.dir / "short").config.data.sequence_length == 4096);
  CHECK_THAT(error_of([&] { hf::import_model(foreign.dir / "hf", foreign.dir / "long", {.longest_sequence = 8192}); }),
             Contains("sliding_window"));
}
