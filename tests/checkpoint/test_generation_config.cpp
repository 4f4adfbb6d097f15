// The ids that end a text in the files of Hugging Face models, and the files that checkpoints carry along.
#include "checkpoint/carried_files.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/generation_config.h"
#include "fixtures.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using Ids = std::vector<int32_t>;

namespace {
Ids ids(const std::string& json) {
  return eos_ids_in(json, "generation_config.json", 320);
}
std::string refusal(const std::string& value) {
  return error_of([&] { ids("{\"eos_token_id\": " + value + "}"); });
}
}  // namespace

TEST_CASE("eos_token_id is a number, a list, or nothing") {
  CHECK(ids("{}").empty());
  CHECK(ids(R"({"eos_token_id": null, "temperature": 0.6})").empty());
  CHECK(ids(R"({"eos_token_id": 7})") == Ids{7});
  CHECK(ids(R"({"eos_token_id": [319, 0, 319]})") == Ids{319, 0});
  CHECK(ids(R"({"eos_token_id": []})").empty());
}

TEST_CASE("an id that the vocabulary does not have is refused by name") {
  for (const char* value : {"320", "-1", "1.5", "\"2\"", "true", "{}", "18446744073709551615", "[2, 320]", "[[2]]"}) {
    INFO(value);
    CHECK_THAT(refusal(value), Contains("generation_config.json: eos_token_id:") && Contains("vocabulary of 320"));
  }
  CHECK_THAT(error_of([] { ids("[]"); }), Contains("generation_config.json"));
  CHECK_THAT(error_of([] { ids("{"); }), Contains("generation_config.json"));
}

TEST_CASE("a checkpoint carries chat templates and generation_config.json beside its tokenizer, byte for byte") {
  const TemporaryDirectory directory;
  const std::vector<NamedTensor> model{tensor_of<float>("embed", {2}, {1, 2})};
  const NamedFiles carried = {{"chat_template.jinja", "{{ a }}\r\n\n"},
                              {"chat_template.tool_use.jinja", "{{ b }}"},
                              {"generation_config.json", "{\"eos_token_id\": [1, 2]}"}};
  CheckpointContents contents;
  contents.state.step = 1;
  contents.model = model;
  contents.tokenizer = carried;
  contents.tokenizer["tokenizer.json"] = "{}";
  const std::string path = save_checkpoint(directory.path(), contents);
  const Checkpoint checkpoint(path);
  CHECK(checkpoint.tokenizer() == contents.tokenizer);
  CHECK(checkpoint.tokenizer_path() == path + "/tokenizer.json");
  CHECK(carried_files(checkpoint.tokenizer()) == carried);
  CHECK(without_carried_files(checkpoint.tokenizer()) == NamedFiles{{"tokenizer.json", "{}"}});
  CHECK(carried_eos_ids(checkpoint.tokenizer(), path, 3) == Ids{1, 2});
  CHECK_THAT(error_of([&] { carried_eos_ids(checkpoint.tokenizer(), path, 2); }),
             Contains(path + "/generation_config.json"));
  CHECK(carried_eos_ids({}, path, 2).empty());

  flip_bit(path + "/chat_template.jinja", 3, 1);
  CHECK_THAT(error_of([&] { Checkpoint damaged(path); }), Contains("chat_template.jinja is damaged"));
}
