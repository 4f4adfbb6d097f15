#pragma once
// A model in Hugging Face's format, for tests of import.
#include <algorithm>

#include "export/hf_export.h"
#include "export/hf_import.h"
#include "models.h"

namespace strand::test {

namespace fs = std::filesystem;

/// An exported model whose files a test may spoil.
struct Foreign {
  TemporaryDirectory dir;
  Config config;

  explicit Foreign(const ClassCase& c) : Foreign(config_of(c)) {}
  explicit Foreign(const Config& model, const std::string& tokenizer = "", const std::string& class_name = "")
      : config(model) {
    const Checkpoint checkpoint(make_checkpoint(config, dir / "run", tokenizer));
    hf::export_model(checkpoint, config, dir / "hf", {.class_name = class_name});
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
  std::vector<double> ours(const std::string& name) const {
    return numbers(Checkpoint(dir / "run/step_00000000").model(), name);
  }
  std::string refusal(const std::string& out = "imported") const {
    const std::string error = error_of([&] { hf::import_model(dir / "hf", dir / out); });
    CHECK_FALSE(fs::exists(fs::path(dir / out) / "checkpoints" / "step_00000000"));
    return error;
  }
};

/// The imported checkpoint holds the tensors and options of the model that was exported.
inline void require_same_model(const Foreign& foreign, const hf::ImportSummary& summary) {
  const Checkpoint before(foreign.dir / "run/step_00000000"), after(summary.checkpoint);
  REQUIRE(before.model().items().size() == after.model().items().size());
  for (const auto& [name, item] : before.model().items()) {
    INFO(name);
    CHECK(after.model().at(name).entry->shape == item.entry->shape);
    CHECK(numbers(after.model(), name) == numbers(before.model(), name));
  }
  const Config read = checkpoint_config(after);
  CHECK(read.model == foreign.config.model);
  CHECK(read.moe == foreign.config.moe);
}

/// Puts `value` at a key of a config.json that is fine otherwise. The import must be refused by that key, and say why.
inline void check_refused(const Foreign& foreign, nlohmann::json config, const std::string& key,
                          const nlohmann::json& value, const std::string& why) {
  INFO(key << " = " << value);
  config[key] = value;
  put(foreign.dir / "hf/config.json", config.dump());
  CHECK_THAT(foreign.refusal(), Catch::Contains("config.json: " + key) && Catch::Contains(why));
}

inline NamedTensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& t : tensors)
    if (t.name == name) return t;
  FAIL("no tensor " << name);
  return tensors.front();
}
/// Lines that contain `text`.
inline int64_t count_of(const std::vector<std::string>& lines, const std::string& text) {
  return std::count_if(lines.begin(), lines.end(),
                       [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

}  // namespace strand::test
