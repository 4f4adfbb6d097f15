// YaRN in config.json: what its numbers mean to transformers, what other programs would make of them, and the length of
// a sequence that leaves with them.
#include "foreign.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using nlohmann::json;

TEST_CASE("YaRN whose numbers mean different things to different programs, by key") {
  const Foreign foreign(config_of({"Qwen3MoeForCausalLM", set_qwen3}));
  const json whole = read_json(foreign.dir / "hf/config.json");
  const json plain = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4}};
  int imports = 0;
  const auto import_with = [&](const json& more) {
    json changed = whole;
    changed["rope_scaling"] = plain;
    changed["rope_scaling"].update(more);
    for (const auto& [key, value] : more.items())
      if (value == "absent") changed["rope_scaling"].erase(key);
    put(foreign.dir / "hf/config.json", changed.dump());
    return hf::import_model(foreign.dir / "hf", foreign.dir / fmt::format("yarn{}", imports++)).config.model;
  };
  const auto refusal = [&](const json& more) {
    INFO(more);
    const std::string error = error_of([&] { import_with(more); });
    CHECK_THAT(error, Contains("config.json: rope_scaling"));
    return error;
  };
  const ModelConfig usual = import_with(json::object());
  CHECK(usual.rope_scaling == RopeScaling::yarn);
  CHECK(usual.yarn_factor == 4);
  CHECK(usual.yarn_original_length == 4);
  CHECK(usual.yarn_beta_fast == 32);
  CHECK(usual.yarn_beta_slow == 1);
  CHECK(usual.yarn_mscale == 1);
  CHECK(usual.yarn_mscale_all_dim == 0);
  CHECK(import_with({{"mscale", 1.0}, {"mscale_all_dim", 0}}).yarn_mscale_all_dim == 0);
  CHECK(import_with({{"mscale", nullptr}, {"beta_fast", nullptr}, {"truncate", true}}).yarn_beta_fast == 32);
  CHECK(import_with({{"mscale", 0.7}, {"mscale_all_dim", 0.9}}).yarn_mscale == 0.7);
  CHECK_THAT(refusal({{"mscale", 0.7}}), Contains("mscale 0.7 and mscale_all_dim null"));
  CHECK_THAT(refusal({{"mscale", 0}, {"mscale_all_dim", 1.0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"mscale", 0}, {"mscale_all_dim", 0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"mscale_all_dim", 1.0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"attention_factor", 1.2}}), Contains("attention_factor 1.2"));
  CHECK_THAT(refusal({{"truncate", false}}), Contains("truncate"));
  CHECK_THAT(refusal({{"factor", "absent"}}), Contains("YaRN without factor"));
  CHECK_THAT(refusal({{"original_max_position_embeddings", "absent"}}), Contains("original_max_position_embeddings"));
  CHECK_THAT(refusal({{"mrope_section", {1, 1}}}), Contains("mrope_section"));
  CHECK_THAT(error_of([&] { import_with({{"factor", 0.5}}); }), Contains("config.json") && Contains("yarn_factor"));
  put(foreign.dir / "hf/config.json", [&] {
    json changed = whole;
    changed["rope_scaling"] = plain;
    changed["original_max_position_embeddings"] = 8;
    return changed.dump();
  }());
  CHECK_THAT(foreign.refusal(), Contains("config.json: original_max_position_embeddings"));
}

TEST_CASE("A model with YaRN leaves with the length that its factor makes") {
  Config config = config_of({"Qwen3MoeForCausalLM", set_qwen3});
  config.model.rope_scaling = RopeScaling::yarn;
  config.model.yarn_factor = 40;
  config.model.yarn_original_length = 8;
  const Foreign foreign(config);
  const json c = read_json(foreign.dir / "hf/config.json");
  CHECK(c["max_position_embeddings"] == 320);
  CHECK_FALSE(c["rope_scaling"].contains("mscale"));
  CHECK(c["rope_parameters"]["rope_type"] == "yarn");
  config.model.yarn_mscale = 0.5;  // and yarn_mscale_all_dim 0
  CHECK_THAT(error_of([&] { Foreign{config}; }), Contains("yarn_mscale and yarn_mscale_all_dim"));
}
