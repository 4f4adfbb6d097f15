#include "export/hf_import.h"

#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "export/model_config.h"
#include "export/tensor_map.h"

namespace strand::hf {

namespace fs = std::filesystem;

namespace {
constexpr uint64_t max_config_bytes = 16'000'000;

/// The directory that will hold step_00000000.
std::string parent_of_checkpoint(const std::string& out) {
  fs::path path = fs::path(out).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const std::string name = path.filename().string();
  const fs::path parent = name == checkpoint_name(0) ? fs::path(parent_directory(path.string())) : path / "checkpoints";
  require(name == checkpoint_name(0) || !name.starts_with("step_"),
          "{}: an imported model has made no steps, so its checkpoint is called {}", out, checkpoint_name(0));
  const fs::path target = parent / checkpoint_name(0);
  require(!fs::exists(fs::symlink_status(target)), "{} is already there: remove it, or choose another place",
          target.string());
  return parent.string();
}

/// What a run needs besides a model; whoever trains on sets its own.
void complete(Config& config) {
  config.run.name = "imported";
  config.train.steps = 1000;
  config.train.global_batch_size = config.train.micro_batch_size = 1;
}

std::string tokenizer_bytes(const std::string& directory, const Config& config) {
  const std::string path = (fs::path(directory) / "tokenizer.model").string();
  if (!fs::exists(path)) {
    log_warning(fmt::format("{} has no tokenizer.model: the checkpoint takes and gives ids, not text", directory));
    return "";
  }
  const Tokenizer tokenizer = Tokenizer::load(path);
  require(tokenizer.vocab_size() == config.model.vocab_size,
          "{} has {} pieces, but config.json says vocab_size {}; move the tokenizer away to import the weights alone",
          path, tokenizer.vocab_size(), config.model.vocab_size);
  return tokenizer.bytes();
}
}  // namespace

ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options) {
  const std::string parent = parent_of_checkpoint(out);
  const std::string config_path = (fs::path(directory) / "config.json").string();
  auto [family, config] =
      read_config_json(read_file(config_path, max_config_bytes), config_path, options.longest_sequence);
  const TensorSource source(directory, "model");
  require_plausible(*family, config, source);
  if (family->settle) {
    const Config as_written = config;
    family->settle(config,
                   [&, f = family](const std::string& name) { return is_all_zero(*f, as_written, source, name); });
  }
  complete(config);
  check_config(config);
  const std::vector<NamedTensor> tensors = tensors_for_import(*family, config, source);

  CheckpointContents contents;
  contents.state.seed = config.run.seed;
  contents.state.versions = {{"imported from", family->class_name}};
  contents.config_yaml = to_yaml(config);
  contents.tokenizer_model = tokenizer_bytes(directory, config);
  contents.model = tensors;
  const std::string path = save_checkpoint(parent, contents);
  return {family->class_name, path, config, static_cast<int64_t>(tensors.size()), !contents.tokenizer_model.empty()};
}

}  // namespace strand::hf
