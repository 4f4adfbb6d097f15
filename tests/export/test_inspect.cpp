// What `strand inspect` says of models in the formats of others, and how many parameters an export has. Numbers are
// worked out by hand from the sizes in models.h: V 11, D 20 (24 where heads are as wide), L 3, E 5, F 7.
#include <cstring>

#include "export/gguf_architectures.h"
#include "export/gguf_export.h"
#include "export/gguf_reader.h"
#include "export/hf_export.h"
#include "export/hf_import.h"
#include "models.h"
#include "report/describe_model.h"
#include "report/describe_path.h"
#include "small_tokenizer.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
/// Bytes of a GGUF file, written here by the description of the format alone.
class GgufBytes {
 public:
  GgufBytes(uint32_t version, uint64_t tensors, uint64_t keys) : bytes_("GGUF") {
    number(version);
    number(tensors);
    number(keys);
  }
  template <typename T>
  GgufBytes& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& text(const std::string& value) {
    number(static_cast<uint64_t>(value.size()));
    bytes_ += value;
    return *this;
  }
  GgufBytes& key(const std::string& name, uint32_t type) {
    text(name);
    return number(type);
  }
  /// `extents` in the order of the file, the length of a row first.
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& extents, uint32_t type, uint64_t offset) {
    text(name);
    number(static_cast<uint32_t>(extents.size()));
    for (const uint64_t extent : extents) number(extent);
    return number(type).number(offset);
  }
  std::string with_data(size_t bytes) const {
    std::string file = bytes_;
    file.append((32 - file.size() % 32) % 32 + bytes, '\0');
    return file;
  }

 private:
  std::string bytes_;
};

gguf::FileDescription parsed(const std::string& file) {
  return gguf::parse_gguf(std::as_bytes(std::span(file)), "file");
}

std::string error_about(const std::string& file) {
  return error_of([&] { parsed(file); });
}

/// A file with a value of every type and a tensor of blocks, as other programs write them.
std::string foreign_file() {
  GgufBytes f(2, 2, 14);
  f.key("general.architecture", 8).text("llama");
  f.key("u8", 0).number(uint8_t{200}).key("i8", 1).number(int8_t{-3});
  f.key("u16", 2).number(uint16_t{65535}).key("i16", 3).number(int16_t{-300});
  f.key("u32", 4).number(uint32_t{7}).key("i32", 5).number(int32_t{-7});
  f.key("f32", 6).number(0.25F).key("bool", 7).number(uint8_t{1});
  f.key("u64", 10).number(uint64_t{1} << 40).key("i64", 11).number(int64_t{-1} << 40);
  f.key("f64", 12).number(1e-6);
  f.key("tokens", 9).number(uint32_t{8}).number(uint64_t{2}).text("a").text("bc");
  f.key("nested", 9)
      .number(uint32_t{9})
      .number(uint64_t{1})
      .number(uint32_t{4})
      .number(uint64_t{1})
      .number(uint32_t{5});
  f.tensor("blk.0.ffn.weight", {256, 3}, 12, 0);  // q4_k: 144 bytes a row
  f.tensor("blk.1.norm.weight", {8}, 0, 448);     // f32, at the next multiple of 32
  return f.with_data(448 + 32);
}

std::string text_of(const gguf::FileDescription& file, const std::string& key) {
  REQUIRE(file.find(key) != nullptr);
  return file.find(key)->for_people();
}

int64_t elements_in(const TensorSource& source) {
  int64_t elements = 0;
  for (const auto& [name, item] : source.items()) {
    int64_t here = 1;
    for (const int64_t extent : item.entry->shape) here *= extent;
    elements += here;
  }
  return elements;
}

int64_t elements_in(const gguf::FileDescription& file) {
  int64_t elements = 0;
  for (const gguf::TensorDescription& tensor : file.tensors) elements += tensor.elements;
  return elements;
}

const ClassCase& case_of(const std::string& name) {
  for (const ClassCase& c : class_cases)
    if (c.name == name) return c;
  throw Error("no case of " + name);
}

/// A model of a class, exported with a tokenizer of 400 pieces.
struct Exported {
  explicit Exported(const std::string& class_name, DType type = DType::f32) {
    const auto tokenizer = small_tokenizer(dir);
    Config config = config_of(case_of(class_name));
    config.model.vocab_size = 400;
    const Checkpoint checkpoint(make_checkpoint(config, dir / "run", tokenizer->files().at("tokenizer.model")));
    parameters = hf::export_model(checkpoint, config, path, {.dtype = type}).parameters;
  }
  TemporaryDirectory dir;
  std::string path = dir / "hf";
  hf::ParameterCounts parameters;
};

void replace_in(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read_file(path, 1 << 20);
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  put(path, text.replace(at, from.size(), to));
}
}  // namespace

TEST_CASE("The parameters of an export are trained weights, bias, constants and copies") {
  for (const ClassCase& c : class_cases) {
    INFO(c.name);
    const TemporaryDirectory dir;
    const Config config = config_of(c);
    const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
    const hf::ParameterCounts counts =
        hf::export_model(checkpoint, config, dir / "hf", {.class_name = c.name}).parameters;
    CHECK(counts.written == elements_in(TensorSource(dir / "hf", "model")));
    CHECK(counts.copies == 0);
    // Bias: E in each of the two layers with experts. Qwen2-MoE: 24 + 12 + 12 zero biases in each of three layers; in
    // the two with experts a shared expert of three 32 x 24 matrices, and its gate of 24.
    CHECK(counts.bias == (c.name == "Ernie4_5_MoeForCausalLM" || c.name == "Glm4MoeForCausalLM" ? 2 * 5 : 0));
    CHECK(counts.constants == (c.name == "Qwen2MoeForCausalLM" ? 3 * (24 + 12 + 12) + 2 * (3 * 32 * 24 + 24) : 0));
    CHECK(counts.written == counts.trained + counts.bias + counts.constants);
  }
}

TEST_CASE("A GGUF file may hold the embedding of a tied model twice") {
  for (const char* name : {"OlmoeForCausalLM", "MixtralForCausalLM"}) {
    INFO(name);
    const TemporaryDirectory dir;
    Config config = config_of(case_of(name));
    config.model.tied_embeddings = true;
    config.model.num_kv_heads = config.model.num_heads;  // llama.cpp's olmoe has no others
    const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
    const hf::ParameterCounts counts = gguf::export_model(checkpoint, config, dir / "out.gguf").parameters;
    CHECK(counts.written == elements_in(gguf::read_gguf(dir / "out.gguf")));
    CHECK(counts.copies == (std::string(name) == "OlmoeForCausalLM" ? 11 * 24 : 0));
    CHECK(counts.written == counts.trained + counts.copies);
  }
}

TEST_CASE("GGUF: values of every type, arrays, shapes, types of tensors") {
  const gguf::FileDescription file = parsed(foreign_file());
  CHECK(file.version == 2);
  const std::map<std::string, std::string> expected = {{"general.architecture", "llama"},
                                                       {"u8", "200"},
                                                       {"i8", "-3"},
                                                       {"u16", "65535"},
                                                       {"i16", "-300"},
                                                       {"u32", "7"},
                                                       {"i32", "-7"},
                                                       {"f32", "0.25"},
                                                       {"bool", "1"},
                                                       {"u64", "1099511627776"},
                                                       {"i64", "-1099511627776"},
                                                       {"f64", "1e-06"},
                                                       {"tokens", "array of 2"},
                                                       {"nested", "array of 1"}};
  CHECK(file.keys.size() == expected.size());
  for (const auto& [key, text] : expected) CHECK(text_of(file, key) == text);
  REQUIRE(file.tensors.size() == 2);
  CHECK(file.tensors[0].shape == std::vector<int64_t>{3, 256});
  CHECK(file.tensors[0].type == "q4_k");
  CHECK(file.tensors[0].bytes == 3 * 144U);
  CHECK(file.tensors[1].elements == 8);
}

TEST_CASE("GGUF: a file that breaks off anywhere is refused, and so is what the format does not allow") {
  const std::string whole = foreign_file();
  CHECK(error_about(whole).empty());
  for (size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(error_about(whole.substr(0, size)).empty());
  CHECK_THAT(error_about(whole.substr(0, 100)), Contains("file: the file breaks off in its header"));
  CHECK_THAT(error_about(whole.substr(0, whole.size() - 1)),
             Contains("tensor blk.1.norm.weight has 32 bytes from byte") && Contains("it is incomplete"));
  CHECK_THAT(error_about(GgufBytes(1, 0, 0).with_data(0)), Contains("GGUF of version 1, of which 2 and 3 are known"));
  CHECK_THAT(error_about(GgufBytes(0x03000000, 0, 0).with_data(0)), Contains("big-endian"));
  CHECK_THAT(error_about(GgufBytes(3, 0, 1).key("k", 13).with_data(8)), Contains("a value of type 13"));
  CHECK_THAT(error_about(GgufBytes(3, 0, 2).key("k", 0).number('a').key("k", 0).number('b').with_data(0)),
             Contains("key k at byte") && Contains("is there twice"));
  CHECK_THAT(error_about(GgufBytes(3, 1, 0).tensor("t", {1, 1, 1, 1, 1}, 0, 0).with_data(4)), Contains("5 dimensions"));
  CHECK_THAT(error_about(GgufBytes(3, 1, 0).tensor("t", {1ULL << 40, 1ULL << 40}, 0, 0).with_data(4)),
             Contains("more than 2^60 elements"));
  CHECK_THAT(error_about(GgufBytes(3, 1, 0).tensor("t", {100}, 12, 0).with_data(144)), Contains("no multiple of"));
  CHECK_THAT(error_about(GgufBytes(3, UINT64_MAX, 0).with_data(0)), Contains("breaks off"));
  CHECK_THAT(error_about(GgufBytes(3, 0, UINT64_MAX).with_data(0)), Contains("breaks off"));
  CHECK(parsed(GgufBytes(3, 1, 0).tensor("t", {3}, 77, 0).with_data(4)).tensors[0].type == "type 77");
}

TEST_CASE("inspect of a GGUF file says what is in it, and what imports") {
  const TemporaryDirectory dir;
  const auto tokenizer = small_tokenizer(dir);
  Config config = config_of(case_of("Qwen3MoeForCausalLM"));
  config.model.vocab_size = 400;
  config.run.name = "small";
  set_mixtral(config);
  config.model.dense_layers = config.model.dense_ffn = 0;
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run", tokenizer->files().at("tokenizer.model")));
  const std::string path = dir / "model";  // whatever its name
  const int64_t written = gguf::export_model(checkpoint, config, path, {.chat_template = "chatml"}).parameters.written;
  CHECK(identify_path(path) == PathKind::gguf);
  const std::string text = describe_path(path, {});
  INFO(text);
  CHECK_THAT(text, Contains("GGUF, version 3\narchitecture: qwen3moe\nname: small\n"));
  CHECK_THAT(text, Contains("layers 3, width 20, heads 4, heads of keys and values 2, experts 5, experts used 3"));
  CHECK_THAT(text,
             Contains("parameters: ") && Contains("precision: f32 (") && Contains("tokenizer: llama (default), 400"));
  CHECK_THAT(text, Contains("chat template: chatml\n") && Contains("cannot be imported: strand writes GGUF files"));
  CHECK_THAT(text, Contains("blk.{}.attn_q.weight") && Contains("[24, 20]"));
  CHECK(written == elements_in(gguf::read_gguf(path)));
  put(dir / "odd", GgufBytes(3, 0, 1).key("general.name", 8).text("a \x1b[31mname").with_data(0));
  CHECK_THAT(describe_path(dir / "odd", {}), Contains("name: a \\x1b[31mname\n"));  // no colours of the terminal
  put(dir / "cut.gguf", "GGUF");
  CHECK_THAT(error_of([&] { describe_path(dir / "cut.gguf", {}); }), Contains("breaks off"));
}

TEST_CASE("inspect of a Hugging Face directory says what is in it, and the command that imports it") {
  const Exported model("Glm4MoeForCausalLM", DType::bf16);
  CHECK(identify_path(model.path) == PathKind::model_directory);
  const std::string text = describe_path(model.path, {});
  INFO(text);
  CHECK_THAT(text, Contains("class: Glm4MoeForCausalLM\n3 layers of width 20, 4 heads (2 of keys and values), 1 of the "
                            "layers dense, 5 experts of width 7, of which 3 are used, and 2 shared\n"));
  CHECK_THAT(text, Contains("vocabulary of 400, head and embedding separate"));
  CHECK_THAT(text, Contains("; 10 elements of the bias of expert selection\n") && !Contains("leaves out"));
  CHECK_THAT(text, Contains("precision: BF16 (") && Contains(", F32 ("));
  CHECK_THAT(text, Contains("tokenizer: SentencePiece") && Contains("400 pieces") && Contains("chat template: none"));
  CHECK_THAT(text, Contains("model.layers.{}.mlp.experts.{}.up_proj.weight") && Contains("[7, 20]"));
  CHECK_THAT(text, Contains("can be imported: strand import " + model.path + " --out runs/NAME\n"));
  CHECK(error_of([&] { hf::import_model(model.path, model.dir / "imported"); }).empty());
  CHECK_THAT(describe_path(model.path + "/model.safetensors", {}), Contains("strand inspect " + model.path));
}

TEST_CASE("What import leaves out is counted") {
  const Exported model("Qwen2MoeForCausalLM");
  CHECK_THAT(describe_model_directory(model.path),
             Contains("; 4,800 elements that import leaves out") && Contains("note: left out: "));
  CHECK(model.parameters.constants == 4800);
}

TEST_CASE("import says of other models of strand what they are") {
  const StoredModel model;
  const auto error = [&](const std::string& path) {
    return error_of([&] { hf::import_model(path, model.dir / "imported"); });
  };
  put(model.dir / "weights", GgufBytes(3, 0, 0).with_data(0));
  CHECK_THAT(error(model.dir / "weights"), Contains("weights is a GGUF file, which strand writes and does not import"));
  CHECK_THAT(error(model.checkpoint.path()), Contains("is a run or a checkpoint of strand"));
  CHECK_THAT(error(model.dir / "weight"),
             Contains("is no directory (did you mean '" + (model.dir / "weights") + "'?)"));
}

TEST_CASE("inspect of a directory that import refuses says why, in import's own words") {
  const auto check = [](const std::string& path, const std::string& expected) {
    const std::string reason = error_of([&] { hf::import_model(path, path + "-imported"); });
    CHECK_THAT(reason, Contains(expected));
    CHECK(identify_path(path) == PathKind::model_directory);
    const std::string text = describe_path(path, {});
    INFO(text);
    CHECK_THAT(text, Contains("cannot be imported: " + reason + "\n") && !Contains("can be imported: strand"));
    return text;
  };
  const Exported model("MixtralForCausalLM");
  const std::string config = model.path + "/config.json";
  replace_in(config, "MixtralForCausalLM", "LlamaForCausalLM");
  const std::string other = check(model.path, "a model of class LlamaForCausalLM; known are");
  CHECK_THAT(other, Contains("architectures [\"LlamaForCausalLM\"]") && Contains("hidden_size 20"));
  CHECK_THAT(other, Contains("model.embed_tokens.weight") && Contains("precision: F32 ("));
  replace_in(config, "LlamaForCausalLM", "MixtralForCausalLM");
  replace_in(config, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
  check(model.path, "model.layers.2");
  fs::remove(model.path + "/model.safetensors");
  put(model.path + "/pytorch_model.bin", "x");
  check(model.path, "which is for Python alone");
  put(config, "{");
  check(model.path, "pytorch_model.bin");
}
