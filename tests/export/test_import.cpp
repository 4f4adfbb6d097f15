// Import is export backwards; what does not fit is refused by name, and nothing is left behind.
#include <set>

#include "export/tensor_import.h"
#include "export/tensor_map.h"
#include "foreign.h"
#include "tests/checkpoint/read_in_pieces.h"

using namespace strand;
using namespace strand::test;

using Catch::Contains;

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
    for (const std::string layer : {"model.layers.0.", "model.layers.1.", "model.layers.2."}) {
      for (const std::string e : {"0", "1", "2", "3", "4"}) {
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
      t.shape = down ? std::vector<int64_t>{5, 20, 7} : std::vector<int64_t>{5, 14, 20};
      t.read = [data = bytes](void* host, size_t offset, size_t n) { std::memcpy(host, data.data() + offset, n); };
    }
    tensors = out;
  });
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  const Checkpoint imported(summary.checkpoint);
  hf::export_model(imported, checkpoint_config(imported), foreign.dir / "again");
  CHECK(get(foreign.dir / "again/model.safetensors") == before);

  foreign.edit_config([](nlohmann::json& c) { c["num_local_experts"] = 6; });
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
    foreign.edit_tensors([&](auto& t) { named(t, expert).shape = {24, 7}; });
    CHECK_THAT(foreign.refusal(), Contains(expert) && Contains("[24, 7]") && Contains("[7, 24]"));
  }
  SECTION("of integers") {
    foreign.edit_tensors([&](auto& t) { named(t, expert).dtype = DType::i32; });
    CHECK_THAT(foreign.refusal(), Contains(expert) && Contains("I32"));
  }
  SECTION("unknown") {
    foreign.edit_tensors([&](auto& t) {
      t.push_back(tensor_of<float>("model.layers.0.self_attn.o_proj.bias", {24}, std::vector<float>(24, 0)));
    });
    CHECK_THAT(foreign.refusal(), Contains("o_proj.bias"));
  }
  SECTION("a bias that is not zero") {
    const std::string bias = "model.layers.0.self_attn.k_proj.bias";
    foreign.edit_tensors([&](auto& t) {
      named(t, bias) = tensor_of<float>(bias, {12}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1e-6f});
    });
    CHECK_THAT(foreign.refusal(), Contains(bias) && Contains("not zero"));
  }
  SECTION("of a layer that the configuration does not count") {
    foreign.edit_tensors([](auto& t) { t.push_back(tensor_of<float>("model.layers.3.eh_proj.weight", {1}, {1})); });
    CHECK_THAT(foreign.refusal(), Contains("model.layers.3.eh_proj.weight") && Contains("num_hidden_layers 3"));
  }
  SECTION("with two names") {
    foreign.edit_tensors([](auto& t) {
      t.push_back(tensor_of<float>("model.layers.1.mlp.experts.down_proj", {1},
                                   {1}));  // the experts are there stacked and one by one
    });
    CHECK_THAT(foreign.refusal(), Contains("model.layers.1.mlp.experts.down_proj"));
  }
}

// What the published checkpoints of each class hold beyond the model, and transformers leaves out
// (_keys_to_ignore_on_load_unexpected of the class; rotary_emb.inv_freq for all). Names as published.
TEST_CASE("Tensors that a class itself leaves out are left out with a note, and no others") {
  struct Extra {
    const char* name;
    std::set<size_t> classes;  ///< of class_cases
  };
  const std::vector<Extra> extras = {
      {"model.layers.0.self_attn.rotary_emb.inv_freq", {0, 1, 2, 3, 4, 5, 6}},
      {"model.rotary_emb.inv_freq", {0, 1, 2, 3, 4, 5, 6}},
      {"model.mtp_block.0.self_attn.q_proj.weight", {4}},
      {"model.mtp_emb_norm.0.weight", {4}},
      {"model.mtp_hidden_norm.0.weight", {4}},
      {"model.mtp_linear_proj.0.weight", {4}},
      {"model.layers.3.eh_proj.weight", {5}},
      {"model.layers.2.eh_proj.weight", {}},  // in a layer of the model
      {"model.layers.4.mlp.experts.0.up_proj.weight", {}},
      {"model.norm.bias", {}},
      {"lm_head.bias", {}},
      {"model.layers.-1.eh_proj.weight", {}},
      {"model.layers.3", {}},
  };
  for (size_t i = 0; i < class_cases.size(); ++i) {
    const Foreign foreign(class_cases[i]);
    const std::string model = get(foreign.dir / "hf/model.safetensors");
    for (const Extra& extra : extras) {
      INFO(class_cases[i].name << " with " << extra.name);
      put(foreign.dir / "hf/model.safetensors", model);
      foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>(extra.name, {2}, {1, 2})); });
      if (!extra.classes.contains(i)) {
        CHECK_THAT(foreign.refusal(), Contains("no place for") && Contains(extra.name));
        continue;
      }
      const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / extra.name);
      CHECK(count_of(summary.notes, extra.name) == 1);
      CHECK(numbers(Checkpoint(summary.checkpoint).model(), "norm.weight") == foreign.ours("norm.weight"));
    }
  }
}

TEST_CASE("Glm4Moe: every tensor of a layer for further tokens goes, by its projection or by the configuration") {
  const Foreign foreign(class_cases[5]);
  const std::string norm = "model.layers.3.input_layernorm.weight", later = "model.layers.4.input_layernorm.weight";
  foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>(norm, {2}, {1, 2})); });
  CHECK_THAT(foreign.refusal(), Contains(norm));
  SECTION("counted") {
    foreign.edit_config([](nlohmann::json& c) { c["num_nextn_predict_layers"] = 1; });
    CHECK(count_of(hf::import_model(foreign.dir / "hf", foreign.dir / "imported").notes, norm) == 1);
    foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>(later, {2}, {1, 2})); });
    CHECK_THAT(foreign.refusal("later"), Contains(later) && !Contains(norm));
  }
  SECTION("with the projection of such a layer") {
    foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>("model.layers.3.eh_proj.weight", {1}, {1})); });
    const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
    CHECK(count_of(summary.notes, norm) == 1);
    CHECK(count_of(summary.notes, "2 tensors") == 1);
  }
}

TEST_CASE("Constants that a class insists on are left out with a note") {
  const Foreign foreign(class_cases[3]);  // Qwen2Moe: 9 biases, 2 shared experts with their gates
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(count_of(summary.notes, "17 tensors") == 1);
  const Foreign whole(class_cases[1]);
  CHECK(hf::import_model(whole.dir / "hf", whole.dir / "imported").notes.empty());
}

TEST_CASE("A tied model and the two names of its one matrix") {
  const std::string head = "lm_head.weight", embedding = "model.embed_tokens.weight";
  for (const ClassCase& one : class_cases) {
    INFO(one.name);
    Config config = config_of(one);
    config.model.tied_embeddings = true;
    const Foreign foreign(config);
    std::vector<double> values = foreign.ours("embed_tokens.weight");
    const auto add_head = [&](double change) {
      foreign.edit_tensors([&](auto& t) {
        std::erase_if(t, [&](auto& x) { return x.name == head; });
        std::vector<float> copy(values.begin(), values.end());
        copy.back() += static_cast<float>(change);  // the last element: all of them count
        t.push_back(tensor_of<float>(head, {11, config.model.hidden_size}, copy));
      });
    };
    // A copy says nothing new.
    add_head(0);
    const hf::ImportSummary copied = hf::import_model(foreign.dir / "hf", foreign.dir / "copied");
    CHECK(copied.config.model.tied_embeddings);
    CHECK(count_of(copied.notes, head) == 1);
    CHECK(copied.warnings == hf::import_model(foreign.dir / "hf", foreign.dir / "b").warnings);
    CHECK(numbers(Checkpoint(copied.checkpoint).model(), "embed_tokens.weight") == values);
    CHECK_FALSE(Checkpoint(copied.checkpoint).model().items().contains("lm_head.weight"));

    // A head of its own is used.
    add_head(1e-3);
    const hf::ImportSummary own = hf::import_model(foreign.dir / "hf", foreign.dir / "own");
    CHECK_FALSE(own.config.model.tied_embeddings);
    CHECK(count_of(own.warnings, head) == 1);
    const Checkpoint untied(own.checkpoint);
    CHECK_FALSE(checkpoint_config(untied).model.tied_embeddings);
    CHECK(numbers(untied.model(), "embed_tokens.weight") == values);
    CHECK(numbers(untied.model(), "lm_head.weight").back() == Approx(values.back() + 1e-3));
    CHECK(numbers(untied.model(), "lm_head.weight").front() == values.front());

    // The head is there, and the embedding is not.
    add_head(0);
    foreign.edit_tensors([&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == embedding; }); });
    const hf::ImportSummary alone = hf::import_model(foreign.dir / "hf", foreign.dir / "alone");
    CHECK(alone.config.model.tied_embeddings);
    CHECK(count_of(alone.notes, head) == 1);
    CHECK(numbers(Checkpoint(alone.checkpoint).model(), "embed_tokens.weight") == values);

    // Without both there is no model, and one that is not tied needs both.
    foreign.edit_tensors([&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == head; }); });
    CHECK_THAT(foreign.refusal("neither"), Contains("missing") && Contains(embedding));
    add_head(0);
    foreign.edit_config([](nlohmann::json& c) { c["tie_word_embeddings"] = false; });
    CHECK_THAT(foreign.refusal("untied"), Contains("missing") && Contains(embedding) && !Contains(head));
  }
}

TEST_CASE("A head of another shape or type than the embedding") {
  Config config = config_of(class_cases[1]);
  config.model.tied_embeddings = true;
  const Foreign foreign(config);
  const std::string head = "lm_head.weight";
  SECTION("more rows") {
    foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>(head, {12, 20}, std::vector<float>(240))); });
    CHECK_THAT(foreign.refusal(), Contains(head) && Contains("[12, 20]") && Contains("[11, 20]"));
  }
  SECTION("the same numbers in another type") {
    foreign.edit_tensors([&](auto& t) {
      const std::vector<double> values = foreign.ours("embed_tokens.weight");
      t.push_back(tensor_of<double>(head, {11, 20}, values));
    });
    CHECK(hf::import_model(foreign.dir / "hf", foreign.dir / "imported").config.model.tied_embeddings);
  }
}

TEST_CASE("What is no directory of a model is refused with what an import reads") {
  const TemporaryDirectory dir;
  const auto refusal = [&](const std::string& from) { return error_of([&] { hf::import_model(from, dir / "out"); }); };
  CHECK_THAT(refusal("Qwen/Qwen3-30B-A3B"), Contains("Qwen/Qwen3-30B-A3B is no directory") && Contains("safetensors"));
  fs::create_directories(dir / "empty");
  CHECK_THAT(refusal(dir / "empty"), Contains("has no config.json") && Contains("model.safetensors"));
  fs::create_symlink("../blobs/9e55", dir / "empty/config.json");
  CHECK_THAT(refusal(dir / "empty"), Contains("config.json is a link to ../blobs/9e55, which is not there"));
  fs::remove(dir / "empty/config.json");
  put(dir / "empty/config.json", "{}");
  CHECK_THAT(refusal(dir / "empty"), Contains("has no weights"));
  fs::create_symlink("../blobs/9e56", dir / "empty/model.safetensors");
  CHECK_THAT(refusal(dir / "empty"), Contains("model.safetensors is a link to ../blobs/9e56, which is not there"));
  fs::remove(dir / "empty/model.safetensors");
  CHECK_THAT(refusal(dir / "empty/config.json"), Contains("config.json is no directory"));
  put(dir / "empty/pytorch_model.bin.index.json", "{}");
  CHECK_THAT(refusal(dir / "empty"), Contains("pytorch_model.bin.index.json") && Contains("save_pretrained"));
  CHECK_THAT(error_of([&] { hf::import_model(dir / "empty", ""); }), Contains("is empty"));
  CHECK_FALSE(fs::exists(dir / "out"));
}

TEST_CASE("A head that differs from the embedding in one element is found wherever it does") {
  const TemporaryDirectory dir;
  constexpr int64_t piece = hf::compared_elements;
  for (const int64_t rows : {piece - 1, piece, piece + 1, 5 * piece / 2}) {
    std::vector<float> embedding(static_cast<size_t>(rows), 0.5F), head = embedding;
    Config config = small_config();
    config.model.vocab_size = rows;
    config.model.hidden_size = 1;
    const auto is_tied = [&] {
      const std::vector<NamedTensor> tensors = {
          host_tensor("model.embed_tokens.weight", {embedding.data(), DType::f32, {rows, 1}}),
          host_tensor("lm_head.weight", {head.data(), DType::f32, {rows, 1}})};
      write_safetensors(dir / "model.safetensors", tensors);
      config.model.tied_embeddings = true;
      const std::string warning =
          hf::settle_head(hf::family_of_class("MixtralForCausalLM", ""), config, TensorSource(dir.path(), "model"));
      CHECK(warning.empty() == config.model.tied_embeddings);
      return config.model.tied_embeddings;
    };
    INFO(rows << " elements");
    CHECK(is_tied());
    for (const int64_t place : {int64_t{0}, piece - 1, piece, rows - 1}) {
      if (place >= rows) continue;
      head[static_cast<size_t>(place)] = 0.25F;
      CHECK_FALSE(is_tied());
      head[static_cast<size_t>(place)] = 0.5F;
    }
  }
}

TEST_CASE("Tensors that are imported and exported are the same in pieces and at once") {
  for (const ClassCase& one : class_cases) {
    INFO(one.name);
    const Foreign foreign(one);
    const Checkpoint ours(foreign.dir / "run/step_00000000");
    for (const DType dtype : {DType::f32, DType::bf16})
      check_pieces(hf::tensors_for_export(hf::family_of_class(one.name, ""), foreign.config, ours.model(), dtype));
    const std::string where = foreign.dir / "hf/config.json";
    hf::ForeignConfig theirs = hf::read_config_json(get(where), where, 4096);
    theirs.config.moe.bias_rate = foreign.config.moe.bias_rate;  // which an import takes from the tensors
    const TensorSource source(foreign.dir / "hf", "model");
    check_pieces(hf::tensors_for_import(theirs, source).tensors);
  }
}
