// Sets of tensors that lie in one file or in several.
#include "checkpoint/tensor_source.h"
#include "fixtures.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
std::vector<NamedTensor> three_tensors() {
  return {tensor_of<float>("layers.0.w", {2, 2}, {1, 2, 3, 4}), tensor_of<float>("layers.1.w", {2}, {5, 6}),
          tensor_of<bf16>("head", {1}, {bf16(7.0f)})};
}

std::string open_error(const TemporaryDirectory& directory) {
  return error_of([&] { TensorSource(directory.path(), "model"); });
}
}  // namespace

TEST_CASE("Small sets lie in one file, large ones in shards with an index") {
  for (const uint64_t limit : {uint64_t{1000}, uint64_t{16}, uint64_t{1}}) {
    const TemporaryDirectory directory;
    const auto written = write_sharded(directory.path(), "model", three_tensors(), limit);
    // Sizes are 16, 8 and 2 bytes: one file; [16], [8, 2]; or each alone.
    const size_t files = limit == 1000 ? 1 : limit == 16 ? 2 + 1 : 3 + 1;
    REQUIRE(written.size() == files);
    CHECK(written.front().name == (limit == 1000 ? "model.safetensors"
                                   : limit == 16 ? "model-00001-of-00002.safetensors"
                                                 : "model-00001-of-00003.safetensors"));
    if (files > 1) {
      CHECK(written.back().name == "model.safetensors.index.json");
      CHECK_THAT(get(directory / written.back().name), Contains("\"total_size\": 26"));
    }
    for (const WrittenFile& file : written) CHECK(file.digest == digest_of_file(directory / file.name));

    REQUIRE(TensorSource::exists(directory.path(), "model"));
    const TensorSource source(directory.path(), "model");
    CHECK(source.total_bytes() == 26);
    CHECK(source.items().size() == 3);
    const Tensor w = source.tensor({"layers.0.w", DType::f32, {2, 2}});
    CHECK(w.shape == Shape{2, 2});
    CHECK(w.as<float>()[3] == 4.0f);
    CHECK(static_cast<float>(source.tensor({"head", DType::bf16, {1}}).as<bf16>()[0]) == 7.0f);
  }
}

TEST_CASE("A source says what does not fit") {
  const TemporaryDirectory directory;
  CHECK_FALSE(TensorSource::exists(directory.path(), "model"));
  CHECK_THAT(open_error(directory), Contains("neither"));
  write_sharded(directory.path(), "model", three_tensors(), 1000);
  const TensorSource source(directory.path(), "model");
  CHECK_THAT(error_of([&] { source.at("layers.2.w"); }), Contains("nearest name is \"layers."));
  CHECK_THAT(error_of([&] {
               source.require_tensor({"head", DType::f32, {1}});
             }),
             Contains("is BF16 [1] and should be F32 [1]"));
  CHECK_THAT(error_of([&] { source.require_tensor({"head", DType::bf16, {2}}); }), Contains("should be BF16 [2]"));
}

TEST_CASE("An index and its shards must agree") {
  const TemporaryDirectory directory;
  write_sharded(directory.path(), "model", three_tensors(), 16);
  const std::string index = directory / "model.safetensors.index.json", whole = get(index);
  REQUIRE(open_error(directory).empty());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    put(index, text.replace(at, from.size(), to));
    return open_error(directory);
  };
  CHECK_THAT(with("\"head\"", "\"tail\""), Contains("holds tensor \"head\""));
  CHECK_THAT(with("\"head\": \"model-00002-of-00002.safetensors\",", ""), Contains("holds tensor \"head\""));
  CHECK_THAT(with("\"weight_map\": {", "\"weight_map\": {\"extra\": \"model-00001-of-00002.safetensors\","),
             Contains("does not hold tensor \"extra\""));
  CHECK_THAT(with("\"head\": \"model-00002", "\"head\": \"model-00001"), Contains("head"));
  CHECK_THAT(with("\"head\": \"model-00002", "\"head\": \"../model-00002"), Contains("no plain file name"));
  CHECK_THAT(with("\"head\": \"model-00002-of-00002.safetensors\"", "\"head\": 3"), Contains("no string"));
  CHECK_THAT(with("\"weight_map\"", "\"weight\""), Contains("weight_map"));
  CHECK_THAT(with("\"layers.1.w\"", "\"head\""), Contains("twice"));
  CHECK_THAT(with("{", ""), Contains("does not begin"));
  put(index, " \r\n\t" + whole + "\n");  // JSON may begin with white space
  CHECK(open_error(directory).empty());
  put(index, whole.substr(0, whole.size() / 2));
  CHECK_THAT(open_error(directory), Contains("not valid JSON"));
  put(index, whole);
  fs::remove(directory / "model-00001-of-00002.safetensors");
  CHECK_THAT(open_error(directory), Contains("shard model-00001-of-00002.safetensors is missing"));
}

TEST_CASE("Nothing is written beside files that a reader would mix up with it") {
  const TemporaryDirectory directory;
  write_sharded(directory.path(), "model", three_tensors(), 16);
  CHECK_THAT(error_of([&] { write_sharded(directory.path(), "model", three_tensors(), 1000); }),
             Contains("remove it first"));
  CHECK(write_sharded(directory.path(), "model", three_tensors(), 16).size() == 3);        // the same files again
  CHECK(write_sharded(directory.path(), "optimizer", three_tensors(), 1000).size() == 1);  // another set
  put(directory / "model.safetensors", "");
  CHECK_THAT(open_error(directory), Contains("both"));
}
