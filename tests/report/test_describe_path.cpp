// What a path is, is decided by its content; every kind, under its own name and under a wrong one.
#include <cstring>

#include "../checkpoint/fixtures.h"
#include "../data_pipeline/small_corpus.h"
#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "data/token_writer.h"
#include "data/tokenizer_training.h"
#include "report/describe_path.h"
#include "small_config.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
const std::string safetensors =
    raw_file(R"({"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0'));

void write_tokens(const std::string& prefix) {
  TokenWriter writer(prefix, 1000);
  const std::vector<int32_t> ids = {1, 2, 999};
  writer.append(ids);
  writer.end_document();
  writer.seal();
  writer.publish();
}

std::string llmc_file() {
  std::string bytes(1024, '\0');
  const int32_t header[3] = {20240520, 1, 4};
  std::memcpy(bytes.data(), header, sizeof header);
  const uint16_t ids[4] = {7, 8, 9, 10};
  return bytes.append(reinterpret_cast<const char*>(ids), sizeof ids);
}

std::string make_checkpoint(const std::string& parent) {
  const std::vector<NamedTensor> model = {tensor_of<float>("weight", {2}, {1, 2})};
  return save_checkpoint(parent, {.state = {.step = 3, .next_sample = 12}, .config_yaml = "x: 1\n", .model = model});
}

std::string described(const std::string& path) {
  return describe_path(path, {});
}
}  // namespace

TEST_CASE("a safetensors file, whatever its name") {
  const TemporaryDirectory directory;
  const std::string path = directory / GENERATE("model.safetensors", "model.bin", "model");
  put(path, safetensors);
  CHECK(identify_path(path) == PathKind::safetensors);
  CHECK_THAT(described(path), Contains("weight") && Contains("F32") && Contains("cannot be imported by itself"));
}

TEST_CASE("a Megatron pair by prefix and by either file") {
  const TemporaryDirectory directory;
  write_tokens(directory / "corpus");
  for (const char* name : {"corpus", "corpus.bin", "corpus.idx"}) {
    INFO(name);
    CHECK(identify_path(directory / name) == PathKind::token_file);
    CHECK_THAT(described(directory / name), Contains("megatron") && Contains("tokens: 3") && Contains("documents: 1"));
  }
}

TEST_CASE("llm.c tokens by their magic number, raw ones by --format alone") {
  const TemporaryDirectory directory;
  put(directory / "data.bin", llmc_file());
  CHECK_THAT(described(directory / "data.bin"), Contains("llmc") && Contains("tokens: 4"));
  put(directory / "raw.bin", std::string(8, '\x05'));
  CHECK_THAT(error_of([&] { identify_path(directory / "raw.bin"); }), Contains("--format raw_u16"));
  CHECK_THAT(describe_path(directory / "raw.bin", {TokenFormat::raw_u16, ""}), Contains("tokens: 4"));
}

TEST_CASE("a tokenizer, whatever its name, and token files as text") {
  const TemporaryDirectory directory;
  put(directory / "corpus.txt", strand_test::small_document(1, 2000));
  TokenizerTraining training;
  training.inputs = {directory / "corpus.txt"};
  training.output = directory / "tokenizer.model";
  training.vocab_size = 400;
  train_tokenizer(training);
  CHECK(identify_path(training.output) == PathKind::tokenizer);
  fs::copy_file(training.output, directory / "renamed.bin");
  CHECK_THAT(described(directory / "renamed.bin"), Contains("SentencePiece") && Contains("pieces: 400"));
  write_tokens(directory / "corpus");
  CHECK_THAT(describe_path(directory / "corpus", {TokenFormat::automatic, training.output}),
             Contains("WRONG TOKENIZER"));
}

TEST_CASE("a checkpoint, whole and damaged") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer interposed(layer);
  const std::string path = make_checkpoint(directory.path());
  CHECK(identify_path(path) == PathKind::checkpoint);
  CHECK_THAT(described(path), Contains("step 3") && Contains("undamaged"));
  flip_bit(path + "/model.safetensors", 70, 1);
  CHECK_THAT(described(path), Contains("DAMAGED"));
}

TEST_CASE("a run directory: configuration, log and checkpoints") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer interposed(layer);
  put(directory / "config.yaml", to_yaml(strand_test::small_config()));
  put(directory / "log.jsonl", "{\"step\":1,\"loss\":3.5}\n{\"step\":2,\"loss\":2.5}\n{\"step\":3,\"lo");
  CHECK(identify_path(directory.path()) == PathKind::run_directory);
  CHECK_THAT(described(directory.path()), Contains("2 rows, step 2, loss 2.5") && Contains("checkpoint: none"));
  put(directory / "log.jsonl", "{\"step\":1,\"loss\":2.123456789012,\"tokens_per_second\":2888.1234567}\n");
  CHECK_THAT(described(directory.path()), Contains("step 1, loss 2.12346, tokens_per_second 2888.12\n"));
  make_checkpoint(directory / "checkpoints");
  CHECK_THAT(described(directory.path()), Contains("step_00000003") && Contains("4 experts, 2 for a token"));
  put(directory / "log.jsonl", "{\"step\":1,\"loss\":3.5}\n\nforeign\n");
  put(directory / "config.yaml", "{{{");
  CHECK_THAT(described(directory.path()), Contains("1 rows, step 1, loss 3.5; DAMAGED: 2 lines are no rows") &&
                                              Contains("config.yaml: DAMAGED") && Contains("step_00000003"));
}

TEST_CASE("a run directory that an import made has checkpoints and nothing else") {
  const TemporaryDirectory directory;
  fs::create_directories(fs::path(directory / "checkpoints"));
  CHECK_THROWS_WITH(identify_path(directory.path()), Contains("neither a checkpoint"));
  make_checkpoint(directory / "checkpoints");
  CHECK(identify_path(directory.path()) == PathKind::run_directory);
  CHECK_THAT(described(directory.path()), Contains("no config.yaml") && Contains("checkpoint: ") &&
                                              Contains("step_00000003") && !Contains("DAMAGED"));
}

TEST_CASE("an unknown path is an error that lists what was tried") {
  const TemporaryDirectory directory;
  put(directory / "notes.txt", "hello, this is only text\n");
  put(directory / "empty", "");
  for (const char* name : {"notes.txt", "empty"})
    CHECK_THAT(error_of([&] { identify_path(directory / name); }),
               Contains(name) && Contains("safetensors") && Contains("MMIDIDX") && Contains("SentencePiece"));
  CHECK_THAT(error_of([&] { identify_path(directory.path()); }), Contains("manifest.json"));
  CHECK_THAT(error_of([&] { identify_path(directory / "absent"); }), Contains("no such file"));
  CHECK_THAT(error_of([&] { identify_path("/dev/null"); }), Contains("neither a file nor a directory"));
}

TEST_CASE("a damaged file is refused by the reader of what its name claims") {
  const TemporaryDirectory directory;
  put(directory / "cut.safetensors", safetensors.substr(0, 20));
  CHECK_THAT(error_of([&] { described(directory / "cut.safetensors"); }), Contains("cut.safetensors"));
  put(directory / "cut.model", "\x0a");
  CHECK_THAT(error_of([&] { described(directory / "cut.model"); }), Contains("cut.model"));
  put(directory / "cut.idx", "MMID");
  CHECK_FALSE(error_of([&] { described(directory / "cut.idx"); }).empty());
  // A header that claims 2^60 bytes: refused before anything is allocated.
  std::string lying = safetensors;
  lying[7] = 0x10;
  put(directory / "lying.safetensors", lying);
  CHECK_THAT(error_of([&] { described(directory / "lying.safetensors"); }), Contains("lying.safetensors"));
}
