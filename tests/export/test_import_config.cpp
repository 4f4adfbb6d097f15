// The configuration and the tokenizer of an imported directory: what our models cannot follow is refused by its key,
// and rows and pieces need not be equally many.
#include "foreign.h"
#include "small_tokenizer.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;

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
  refuses(mixtral, {"rope_parameters", {{"rope_type", "longrope"}, {"rope_theta", 1e4}}, "longrope"});
  refuses(mixtral, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, "linear"});
  refuses(qwen3, {"attention_bias", true, "false"});
  refuses(qwen3, {"mlp_only_layers", nlohmann::json::array({1}), "first layers"});
  refuses(qwen3, {"decoder_sparse_step", 2, "1"});
  refuses(olmoe, {"clip_qkv", 8.0, "null"});
  refuses(qwen2, {"shared_expert_intermediate_size", 5632, "behind a gate"});
  refuses(ernie, {"moe_norm_min", 0.5, "renormalize"});
  refuses(ernie, {"moe_layer_interval", 2, "1"});
  refuses(ernie, {"use_bias", true, "false"});
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
    for (const char* key : {"partial_rotary_factor", "rope_parameters", "norm_topk_prob", "n_group"}) c.erase(key);
  });
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(summary.config.model.rope_fraction == 0.5);
  CHECK(summary.config.moe.renormalize);
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

TEST_CASE("A vocabulary with more rows than the tokenizer has pieces keeps them all") {
  TemporaryDirectory dir;
  Config config = config_of(class_cases[1]);
  config.model.vocab_size = 416;
  const Foreign foreign(config, small_tokenizer(dir)->files().at(sentencepiece_file));
  CHECK(read_json(foreign.dir / "hf/config.json")["vocab_size"] == 416);
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(summary.has_tokenizer);
  CHECK(summary.config.model.vocab_size == 416);
  CHECK(count_of(summary.notes, "416") == 1);
  CHECK(count_of(summary.notes, "400 pieces") == 1);
  const Checkpoint imported(summary.checkpoint);
  CHECK(numbers(imported.model(), "lm_head.weight") == foreign.ours("lm_head.weight"));
  Config read = checkpoint_config(imported);
  CHECK(resolve_vocabulary(read)->vocab_size() == 400);
  CHECK(read.model.vocab_size == 416);
  hf::export_model(imported, read, foreign.dir / "again");
  for (const std::string file : {"model.safetensors", "config.json", "tokenizer.model", "tokenizer.json"})
    CHECK(get(foreign.dir / ("again/" + file)) == get(foreign.dir / ("hf/" + file)));
}

TEST_CASE("A vocabulary with fewer rows than the tokenizer has pieces is refused") {
  TemporaryDirectory dir;
  Config config = config_of(class_cases[1]);
  config.model.vocab_size = 399;
  const Foreign foreign(config);
  put(foreign.dir / "hf/tokenizer.model", small_tokenizer(dir)->files().at(sentencepiece_file));
  CHECK_THAT(foreign.refusal(), Contains("400 pieces") && Contains("vocab_size 399"));
  config.data.tokenizer = foreign.dir / "hf/tokenizer.model";
  CHECK_THAT(error_of([&] { resolve_vocabulary(config); }), Contains("400 pieces") && Contains("399"));
}

TEST_CASE("A tokenizer.model that is not SentencePiece is left out with a warning") {
  TemporaryDirectory dir;
  const Foreign foreign(class_cases[1]);
  const std::string whole = small_tokenizer(dir)->files().at(sentencepiece_file);
  const std::vector<std::pair<std::string, std::string>> others = {
      {"lines of base64 and rank", "IQ== 0\nIg== 1\nIw== 2\nJA== 3\n"},
      {"a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:9e556afd\nsize 499723\n"},
      {"JSON", "{\"config\": {\"pattern\": \"x\"}, \"vocab\": []}"},
      {"nothing", ""},
      {"half of one", whole.substr(0, whole.size() / 2 + 1)},
      {"zeros", std::string(1000, '\0')}};
  for (const auto& [what, bytes] : others) {
    INFO(what);
    put(foreign.dir / "hf/tokenizer.model", bytes);
    const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / what);
    CHECK_FALSE(summary.has_tokenizer);
    CHECK(count_of(summary.warnings, "tokenizer.model") == 1);
    CHECK(Checkpoint(summary.checkpoint).tokenizer().empty());
    CHECK(count_of(summary.warnings, "git lfs pull") == (what == "a pointer of Git LFS"));
    CHECK(numbers(Checkpoint(summary.checkpoint).model(), "norm.weight") == foreign.ours("norm.weight"));
  }
  fs::remove(foreign.dir / "hf/tokenizer.model");
  fs::create_symlink("gone", foreign.dir / "hf/tokenizer.model");
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "a link to nothing");
  CHECK(count_of(summary.warnings, "tokenizer.model: No such file") == 1);
}
