// Reading reference files: what a file says, and clear errors for files that cannot be meant.
#include "tests/catch.h"
#include <fstream>

#include "tests/train/reference_files.h"
#include "train/reference_case.h"

namespace strand::test {
namespace {

TEST_CASE("A file's configuration, batch and values") {
  const ReferenceCase c(reference_file("lb_microbatch"));
  CHECK(c.name() == "lb_microbatch");
  CHECK(c.config().model.vocab_size == 64);
  CHECK(c.config().model.hidden_size == 32);
  CHECK(c.config().moe.num_experts == 6);
  CHECK(c.config().losses.lb_weight == 0.5);
  CHECK(c.config().losses.lb_scope == StatisticsScope::microbatch);
  CHECK(c.config().optimizer.lr == 0.005);
  CHECK(c.config().schedule.warmup_steps == 2);
  CHECK(c.config().train.steps == 5);
  CHECK(c.data().micro_batches == std::vector<int64_t>{2, 2});
  CHECK(c.data().sequences() == 4);
  CHECK(std::count(c.data().targets.begin(), c.data().targets.end(), -1) == 3);
  CHECK(c.has("grad.norm.weight"));
  CHECK_FALSE(c.has("grad.nothing"));
  CHECK(c.values("traj.lr", {5}).size() == 5);
  CHECK_THROWS_WITH(c.values("grad.nothing", {1}), Catch::Matchers::Contains("grad.nothing"));
  CHECK_THROWS_WITH(c.values("traj.lr", {6}), Catch::Matchers::Contains("[5]") && Catch::Matchers::Contains("[6]"));
}

/// The error of opening a changed copy; it must name the file.
template <typename Change>
std::string error_after(const Change& change) {
  const TemporaryDirectory directory;
  EditableFile file(reference_file("lb_microbatch"));
  change(file);
  const std::string path = file.write(directory / "changed.safetensors");
  try {
    const ReferenceCase c(path);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.find(path) != std::string::npos);
    return message;
  }
  return "";
}

using Catch::Matchers::Contains;

TEST_CASE("An unchanged copy is fine") {
  CHECK(error_after([](EditableFile&) {}).empty());
}

TEST_CASE("Configurations that cannot be replayed") {
  const auto edited = [](const std::string& from, const std::string& to) {
    return error_after([&](EditableFile& f) { f.edit_config(from, to); });
  };
  CHECK_THAT(error_after([](EditableFile& f) { f.metadata.erase("config"); }), Contains("no 'config'"));
  CHECK_THAT(error_after([](EditableFile& f) { f.metadata["config"] = "[1, 2]"; }), Contains("not a JSON object"));
  CHECK_THAT(error_after([](EditableFile& f) { f.metadata["config"] = "{\"vocab_size\": "; }),
             Contains("not a JSON object"));
  CHECK_THAT(edited("\"rope_theta\"", "\"rope_beta\""), Contains("rope_theta"));
  CHECK_THAT(edited("{", "{\"dropout\": 0.1, "), Contains("dropout"));
  CHECK_THAT(edited("\"score\": \"softmax\"", "\"score\": \"softmin\""), Contains("softmin") && Contains("score"));
  CHECK_THAT(edited("\"top_k\": 2", "\"top_k\": \"two\""), Contains("top_k"));
  CHECK_THAT(edited("\"top_k\": 2", "\"top_k\": 2.5"), Contains("top_k"));
  CHECK_THAT(edited("\"top_k\": 2", "\"top_k\": 7"), Contains("top_k"));
  CHECK_THAT(edited("\"top_k\": 2", "\"top_k\": 0"), Contains("top_k"));
  CHECK_THAT(edited("\"num_kv_heads\": 4", "\"num_kv_heads\": 3"), Contains("num_kv_heads"));
  CHECK_THAT(edited("\"total_steps\": 5", "\"total_steps\": 0"), Contains("total_steps"));
  CHECK_THAT(edited("[2, 2]", "[1, 3]"), Contains("equal size"));
  CHECK_THAT(edited("[2, 2]", "[]"), Contains("micro_batches"));
  CHECK_THAT(edited("[2, 2]", "[4, 0]"), Contains("micro-batch of 0"));
  CHECK_THAT(edited("[2, 2]", "[3, 3]"), Contains("add up to 6"));
  CHECK_THAT(edited("\"hidden_size\": 32", "\"hidden_size\": 1e300"), Contains("hidden_size"));
  CHECK_THAT(edited("\"hidden_size\": 32", "\"hidden_size\": 4611686018427387904"), Contains("hidden_size"));
  CHECK_THAT(edited("\"hidden_size\": 32", "\"hidden_size\": 18446744073709551616"), Contains("hidden_size"));
  CHECK_THAT(edited("\"lr\": 0.005", "\"lr\": true"), Contains("lr"));
  CHECK_THAT(edited("\"tied_embeddings\": true", "\"tied_embeddings\": 1"), Contains("tied_embeddings"));
  CHECK_THAT(edited("[2, 2]", "[2.5, 2]"), Contains("micro_batches"));
  CHECK_THAT(edited("[2, 2]", "[9223372036854775807, 9223372036854775807]"), Contains("a micro-batch of"));
}

TEST_CASE("Batches that cannot be replayed") {
  CHECK_THAT(error_after([](EditableFile& f) { f.erase("input.tokens"); }), Contains("input.tokens"));
  CHECK_THAT(error_after([](EditableFile& f) { f.erase("input.targets"); }), Contains("input.targets"));
  CHECK_THAT(error_after([](EditableFile& f) {
               auto& shape = f.at("input.tokens").spec.shape;
               shape = {shape[0] * shape[1]};
             }),
             Contains("[B, S]"));
  CHECK_THAT(error_after([](EditableFile& f) {
               auto& shape = f.at("input.targets").spec.shape;
               std::swap(shape[0], shape[1]);
             }),
             Contains("[B, S]"));
}

TEST_CASE("Token ids must be whole numbers") {
  CHECK_THAT(error_after([](EditableFile& f) { f.at("input.tokens").spec.dtype = DType::f32; }), Contains("I32"));
}

TEST_CASE("What is no reference file at all") {
  const TemporaryDirectory directory;
  const std::string path = directory / "text.safetensors";
  std::ofstream(path) << "Once upon a time there was a trainer.";
  CHECK_THROWS_WITH(ReferenceCase(path), Contains(path));
  CHECK_THROWS_WITH(ReferenceCase(directory / "absent.safetensors"), Contains("absent.safetensors"));
}

}  // namespace
}  // namespace strand::test
