#include "export/hf_import.h"

#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/place_lock.h"

namespace strand::hf {

namespace fs = std::filesystem;

namespace {
/// The directory that will hold step_00000000.
std::string parent_of_checkpoint(const std::string& out) {
  fs::path path = fs::path(out).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const std::string name = path.filename().string();
  const fs::path parent = name == checkpoint_name(0) ? fs::path(parent_directory(path.string())) : path / "checkpoints";
  require(name == checkpoint_name(0) || !name.starts_with("step_"),
          "{}: an imported model has made no steps, so its checkpoint is called {}", out, checkpoint_name(0));
  return parent.string();
}

void require_no_checkpoint(const std::string& parent) {
  const fs::path target = fs::path(parent) / checkpoint_name(0);
  require(!fs::exists(fs::symlink_status(target)), "{} is already there: remove it, or choose another place",
          target.string());
}

/// Locks the place against other writers: the directory of the run to which `parent` belongs, or `parent` itself.
PlaceLock lock_place(const std::string& parent) {
  const std::string place = fs::path(parent).filename() == "checkpoints" ? parent_directory(parent) : parent;
  return PlaceLock::of_directory(place, {.command = "strand import", .otherwise = "choose another place"});
}
}  // namespace

ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options) {
  require(!out.empty(), "the name of the run to write is empty");
  require_model_directory(directory);
  const std::string parent = parent_of_checkpoint(out);
  const PlaceLock lock = lock_place(parent);
  require_no_checkpoint(parent);
  const ModelDirectory model(directory, options);
  CheckpointContents contents;
  contents.state.seed = model.config().run.seed;
  contents.state.versions = {{RunState::origin, model.class_name()}};
  contents.config_yaml = to_yaml(model.config());
  contents.tokenizer = model.tokenizer_files();
  contents.model = model.tensors();
  return {.class_name = model.class_name(),
          .checkpoint = save_checkpoint(parent, contents),
          .config = model.config(),
          .tensors = static_cast<int64_t>(model.tensors().size()),
          .has_tokenizer = !contents.tokenizer.empty(),
          .notes = model.notes(),
          .warnings = model.warnings()};
}

}  // namespace strand::hf
