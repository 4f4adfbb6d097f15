// GGUF files: types of tensors, values too large for a type, tensors longer than a piece, and that a file is there
// whole or not at all. What is in the files is held against the Python package gguf and against llama.cpp by
// scripts/gguf_parity.py.
#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "export/element_reader.h"
#include "export/gguf_architectures.h"
#include "export/gguf_export.h"
#include "export/gguf_vocabulary.h"
#include "models.h"
#include "small_tokenizer.h"

using namespace strand;
using namespace strand::test;
using gguf::Encoding;
namespace fs = std::filesystem;

namespace {
/// A checkpoint whose embedding is `value` everywhere.
std::unique_ptr<Checkpoint> checkpoint_with(const Config& config, const TemporaryDirectory& dir, float value) {
  const std::string path = make_checkpoint(config, dir / "run");
  const Checkpoint made(path);
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, item] : made.model().items()) {
    std::vector<float> elements;
    for (const double x : numbers(made.model(), name)) elements.push_back(static_cast<float>(x));
    if (name == "embed_tokens.weight") std::fill(elements.begin(), elements.end(), value);
    values.push_back(elements);
    NamedTensor& tensor = tensors.emplace_back();
    tensor.name = name;
    tensor.dtype = DType::f32;
    tensor.shape = item.entry->shape;
    tensor.read = [elements](void* host, size_t offset, size_t bytes) {
      std::memcpy(host, reinterpret_cast<const char*>(elements.data()) + offset, bytes);
    };
  }
  CheckpointContents contents;
  contents.config_yaml = to_yaml(config);
  contents.model = tensors;
  return std::make_unique<Checkpoint>(save_checkpoint(dir / "changed", contents));
}
}  // namespace

TEST_CASE("f16: every value of the type stays, halves go to the even neighbour") {
  const auto next = [](uint16_t bits) { return hf::from_f16(static_cast<uint16_t>(bits + 1)); };
  int64_t wrong = 0;
  for (uint16_t bits = 0; bits < 0x7c00; ++bits) {  // all that are finite and positive
    const float value = hf::from_f16(bits);
    wrong += gguf::to_f16(value) != bits || gguf::to_f16(-value) != (bits | 0x8000u);
    if (bits == 0x7bff) break;
    const float half = (value + next(bits)) / 2;  // exact in f32
    const auto even = static_cast<uint16_t>(bits + (bits & 1u));
    wrong += gguf::to_f16(half) != even;
    wrong += gguf::to_f16(std::nextafter(half, 0.0F)) != bits;
    wrong += gguf::to_f16(std::nextafter(half, 1e9F)) != bits + 1;
  }
  CHECK(wrong == 0);
  CHECK(gguf::to_f16(65519.99F) == 0x7bff);
  CHECK(gguf::to_f16(65520.0F) == 0x7c00);
  CHECK(gguf::to_f16(-1e30F) == 0xfc00);
}

TEST_CASE("A block of q8_0: the scale, and integers rounded away from zero at halves") {
  std::vector<float> values(32, 0.0F);
  values[0] = -254;  // scale 2
  values[1] = 1;     // 0.5
  values[2] = -3;    // -1.5
  values[3] = 2.9F;
  std::vector<std::byte> out(34);
  REQUIRE_FALSE(gguf::encode(Encoding::q8_0, values, out.data()).has_value());
  CHECK(out[0] == std::byte{0x00});
  CHECK(out[1] == std::byte{0x40});  // 2 in f16
  const auto integer = [&](size_t i) { return static_cast<int>(static_cast<int8_t>(out[2 + i])); };
  CHECK(integer(0) == -127);
  CHECK(integer(1) == 1);
  CHECK(integer(2) == -2);
  CHECK(integer(3) == 1);
  CHECK(integer(4) == 0);

  std::fill(values.begin(), values.end(), 1e-42F);  // the scale is subnormal, and its inverse no number
  REQUIRE_FALSE(gguf::encode(Encoding::q8_0, values, out.data()).has_value());
  for (const std::byte b : out) CHECK(b == std::byte{0});
}

TEST_CASE("A weight that is too large for the type is named, and no file is left") {
  const TemporaryDirectory dir;
  const Config config = config_of(class_cases[0]);
  const auto large = checkpoint_with(config, dir, 70000.0F);
  const auto error = [&](Encoding encoding) {
    return error_of([&] { gguf::export_model(*large, config, dir / "out.gguf", {encoding}); });
  };
  for (const Encoding encoding : {Encoding::f16, Encoding::q8_0}) {  // rows of 20 elements: f16 in place of q8_0
    CHECK_THAT(error(encoding), Catch::Contains("token_embd.weight") && Catch::Contains("70000") &&
                                    Catch::Contains("f16") && Catch::Contains("--type f32 or bf16"));
    CHECK_FALSE(fs::exists(dir / "out.gguf"));
    CHECK_FALSE(fs::exists(dir / "out.gguf.tmp"));
  }
  CHECK(error(Encoding::bf16).empty());
  fs::remove(dir / "out.gguf");
  CHECK(error(Encoding::f32).empty());

  std::vector<float> values(32, 8.4e6F);  // over 127: 66142
  std::vector<std::byte> out(34);
  CHECK(gguf::encode(Encoding::q8_0, values, out.data()) == 8.4e6F);
  CHECK(gguf::encode(Encoding::bf16, std::vector<float>{3.4e38F}, out.data()) == 3.4e38F);  // rounds to infinity
  CHECK(gguf::encode(Encoding::f16, std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()}, out.data()));
}

TEST_CASE("Rows that do not divide into blocks are f16, and the summary says so") {
  const TemporaryDirectory dir;
  Config config = config_of(class_cases[0]);
  config.model.hidden_size = 64;
  config.moe.expert_ffn = 33;
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  const gguf::ExportSummary q8 = gguf::export_model(checkpoint, config, dir / "q8.gguf", {Encoding::q8_0});
  REQUIRE(q8.caveats.size() == 1);
  // 3 layers, of each attn_output (24 elements a row) and ffn_down_exps (33).
  CHECK_THAT(q8.caveats[0], Catch::Contains("6 of ") && Catch::Contains("24 or 33 elements") &&
                                Catch::Contains("blk.0.attn_output.weight"));
  config.moe.expert_ffn = 64;
  config.model.head_dim = 16;
  const Checkpoint even(make_checkpoint(config, dir / "even"));
  CHECK(gguf::export_model(even, config, dir / "even.gguf", {Encoding::q8_0}).caveats.empty());
}

TEST_CASE("A large tensor passes through memory in pieces of whole rows") {
  const TemporaryDirectory dir;
  constexpr int64_t row = 992, rows_of_piece = gguf::piece_elements / row;
  for (const Encoding encoding : {Encoding::f32, Encoding::q8_0}) {
    for (const int64_t rows : {rows_of_piece - 1, rows_of_piece, rows_of_piece + 1, 5 * rows_of_piece / 2}) {
      INFO(to_string(encoding) << ", " << rows << " rows");
      std::vector<float> values;
      for (int64_t i = 0; i < rows * row; ++i) values.push_back(static_cast<float>(i % 1009) - 500);
      int64_t longest = 0, expected_begin = 0;
      const gguf::StoredTensor tensor{"large", {rows, row}, encoding, [&](int64_t begin, int64_t count, float* out) {
                                        CHECK(begin == expected_begin);
                                        CHECK(count % row == 0);
                                        expected_begin += count;
                                        longest = std::max(longest, count);
                                        std::copy_n(values.data() + begin, count, out);
                                      }};
      gguf::write_gguf(dir / "large.gguf", {}, {&tensor, 1});
      CHECK(expected_begin == rows * row);
      CHECK(longest <= gguf::piece_elements);
      // All elements encoded at once are the end of the file, but for the padding of the last tensor.
      std::string data(gguf::encoded_bytes(encoding, values.size()), '\0');
      REQUIRE_FALSE(encode(encoding, values, reinterpret_cast<std::byte*>(data.data())));
      data.resize((data.size() + 31) / 32 * 32, '\0');
      const std::string file = get(dir / "large.gguf");
      CHECK(file.size() < data.size() + 256);
      CHECK(file.ends_with(data));
    }
  }
}

/// The elements of a tensor of a checkpoint as they are in a file of type f32.
std::string floats_of(const TensorSource& source, const std::string& name) {
  std::string bytes;
  for (const double x : numbers(source, name)) {
    const auto value = static_cast<float>(x);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

TEST_CASE("Tensors that are made of others and longer than a piece: experts, and the two parts of latent attention") {
  // Each expert's matrix is a part, and none ends where a piece does.
  const TemporaryDirectory dir;
  Config config = config_of(class_cases[0]);
  config.model.num_layers = 1;
  config.moe.expert_ffn = 5003;
  config.moe.num_experts = 13;
  {
    const Checkpoint checkpoint(make_checkpoint(config, dir / "experts"));
    gguf::export_model(checkpoint, config, dir / "experts.gguf", {Encoding::f32});
    const std::string file = get(dir / "experts.gguf");
    for (const char* part : {"gate", "up", "down"}) {
      std::string all;
      for (int64_t e = 0; e < config.moe.num_experts; ++e)
        all += floats_of(checkpoint.model(), fmt::format("layers.0.moe.experts.{}.{}_proj.weight", e, part));
      REQUIRE(static_cast<int64_t>(all.size() / sizeof(float)) > gguf::piece_elements);
      CHECK(file.find(all) != file.npos);
    }
  }
  // attn_k_b is [H, c, n] and attn_v_b [H, v, c], of our [H, n + v, c].
  config = config_of({"DeepseekV2ForCausalLM", set_deepseek_v2});
  config.model.num_layers = 1;
  config.model.dense_layers = 0;
  config.model.q_latent = 3;
  config.model.norm_eps = 1e-6;
  config.model.rope_scaling = RopeScaling::none;
  const int64_t heads = config.model.num_heads = config.model.num_kv_heads = 8, latent = config.model.kv_latent = 509;
  const int64_t keys = config.model.nope_head_dim = 300, values = config.model.value_head_dim = 290;
  config.model.head_dim = keys + config.model.rope_head_dim;
  const Checkpoint checkpoint(make_checkpoint(config, dir / "latent"));
  gguf::export_model(checkpoint, config, dir / "latent.gguf", {Encoding::f32});
  const std::string file = get(dir / "latent.gguf"),
                    ours = floats_of(checkpoint.model(), "layers.0.attn.kv_b_proj.weight");
  const auto element = [&](int64_t head, int64_t row, int64_t column) {
    return ours.substr(size_t(((head * (keys + values) + row) * latent + column)) * sizeof(float), sizeof(float));
  };
  std::string of_keys, of_values;
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t c = 0; c < latent; ++c)
      for (int64_t n = 0; n < keys; ++n) of_keys += element(h, n, c);
    for (int64_t v = 0; v < values; ++v)
      for (int64_t c = 0; c < latent; ++c) of_values += element(h, keys + v, c);
  }
  REQUIRE(static_cast<int64_t>(of_values.size() / sizeof(float)) > gguf::piece_elements);
  CHECK(file.find(of_keys) != file.npos);
  CHECK(file.find(of_values) != file.npos);
}

TEST_CASE("A disk that fails at any call leaves no file of that name, or the whole one") {
  const StoredModel model;
  gguf::export_model(model.checkpoint, model.config, model.dir / "whole.gguf");
  const std::string whole = get(model.dir / "whole.gguf");
  const std::string out = model.dir / "new/out.gguf";
  const int calls = fail_at_each_call([&] { gguf::export_model(model.checkpoint, model.config, out); },
                                      [&] {
                                        if (fs::exists(out)) CHECK(get(out) == whole);
                                        CHECK_FALSE(fs::exists(out + ".tmp"));
                                        fs::remove_all(model.dir / "new");
                                      });
  CHECK(calls > 10);
}

TEST_CASE("Nothing is overwritten") {
  const StoredModel model;
  put(model.dir / "taken.gguf", "mine");
  const auto error = [&](const std::string& path) {
    return error_of([&] { gguf::export_model(model.checkpoint, model.config, path); });
  };
  CHECK_THAT(error(model.dir / "taken.gguf"), Catch::Contains("taken.gguf") && Catch::Contains("already there"));
  CHECK(get(model.dir / "taken.gguf") == "mine");
  CHECK_THAT(error(model.dir / "run"), Catch::Contains("already there"));
  CHECK_THAT(error(model.dir / "folder/"), Catch::Contains("no name for a new file"));
}

TEST_CASE("A checkpoint of another model than its configuration says is refused") {
  const StoredModel model;
  Config wider = model.config;
  wider.moe.expert_ffn = 8;
  CHECK_THAT(error_of([&] { gguf::export_model(model.checkpoint, wider, model.dir / "out.gguf"); }),
             Catch::Contains("[8, 20]"));
  Config fewer = model.config;
  fewer.moe.num_experts = 4;
  CHECK_THAT(error_of([&] { gguf::export_model(model.checkpoint, fewer, model.dir / "out.gguf"); }),
             Catch::Contains("tensors"));
  CHECK_FALSE(fs::exists(model.dir / "out.gguf"));
}

TEST_CASE("What llama.cpp does otherwise with a text is said") {
  const auto reasons = [](const SentencePieceModel& model, const SpecialTokens& special = {0, 1, 2, -1}) {
    gguf::Metadata metadata;
    return fmt::format("{}", fmt::join(gguf::add_vocabulary(model, special, 4, metadata), "; "));
  };
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.byte_fallback = true;
  model.remove_extra_whitespaces = false;
  model.pieces = {{"<unk>", 0, PieceType::unknown}, {"<s>", 0, PieceType::control}, {"</s>", 0, PieceType::control}};
  CHECK(reasons(model).empty());
  const auto with = [&](void (*change)(SentencePieceModel&)) {
    SentencePieceModel changed = model;
    change(changed);
    return reasons(changed);
  };
  CHECK_THAT(with([](SentencePieceModel& m) { m.charsmap = "x"; }), Catch::Contains("normalization_rule_name"));
  CHECK_THAT(with([](SentencePieceModel& m) { m.remove_extra_whitespaces = true; }),
             Catch::Contains("remove_extra_whitespaces"));
  CHECK_THAT(with([](SentencePieceModel& m) { m.whitespace_as_suffix = true; }), Catch::Contains("as_suffix"));
  CHECK_THAT(with([](SentencePieceModel& m) { m.escape_whitespaces = false; }), Catch::Contains("escape_whitespaces"));
  CHECK_THAT(with([](SentencePieceModel& m) { m.byte_fallback = false; }), Catch::Contains("byte_fallback"));
  CHECK_THAT(with([](SentencePieceModel& m) {
               m.pieces.push_back({"<mask>", 0, PieceType::user_defined});
             }),
             Catch::Contains("piece 3 (\"<mask>\") is user-defined"));
  CHECK_THAT(reasons(model, {0, 1, -1, -1}), Catch::Contains("no EOS"));

  SentencePieceModel unigram = model;
  unigram.algorithm = SentencePieceModel::Algorithm::unigram;
  CHECK_THAT(error_of([&] { reasons(unigram); }), Catch::Contains("BPE"));
  SentencePieceModel many = model;
  many.pieces.resize(5, model.pieces[0]);
  CHECK_THAT(error_of([&] { reasons(many); }), Catch::Contains("5 pieces") && Catch::Contains("4 rows"));
}

TEST_CASE("Unused pieces for rows without one have names that no piece has") {
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.pieces = {{"<unk>", 0, PieceType::unknown}, {"[PAD2]", -1, PieceType::normal}};
  gguf::Metadata metadata;
  gguf::add_vocabulary(model, {0, -1, -1, -1}, 4, metadata);
  CHECK(metadata.bytes().find("[[PAD2]]") != std::string::npos);
  CHECK(metadata.bytes().find("[PAD3]") != std::string::npos);
}
