#include "export/hf_import.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "chat/named_templates.h"
#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/place_lock.h"
#include "data/tokenizer.h"
#include "export/chat_files.h"
#include "export/model_config.h"
#include "export/tensor_import.h"

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
  return parent.string();
}

/// Throws Error that says what an import reads unless the directory holds a configuration and weights.
void require_model_directory(const std::string& directory) {
  constexpr const char* wanted =
      "import reads a directory of Hugging Face with config.json and model.safetensors, or with shards and "
      "model.safetensors.index.json";
  require(fs::is_directory(directory), "{} is no directory: {}", directory, wanted);
  // The directories of Hugging Face's cache hold links to files that may be gone.
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
    const fs::path path = fs::path(directory) / name;
    if (fs::is_symlink(path) && !fs::exists(path))
      fail("{} is a link to {}, which is not there", path.string(), fs::read_symlink(path).string());
  }
  require(fs::exists(fs::path(directory) / "config.json"), "{} has no config.json: {}", directory, wanted);
  if (TensorSource::exists(directory, "model")) return;
  for (const char* pickled : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    require(!fs::exists(fs::path(directory) / pickled),
            "{} has its weights in {}, which is for Python alone; save them as safetensors first (with transformers: "
            "AutoModelForCausalLM.from_pretrained(DIRECTORY).save_pretrained(OTHER))",
            directory, pickled);
  fail("{} has no weights: {}", directory, wanted);
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

/// Fills in what a run needs besides a model. People who train on set their own values.
void complete(Config& config) {
  config.run.name = "imported";
  config.train.steps = 1000;
  config.train.global_batch_size = config.train.micro_batch_size = 1;
}

/// The files of the directory's tokenizer: a tokenizer.model that is of SentencePiece, or else a tokenizer.json. Where
/// there is none that we can use, there are none, and there is a warning.
std::unique_ptr<const Tokenizer> find_tokenizer(const std::string& directory, ImportSummary& summary) {
  constexpr const char* consequence = "the checkpoint takes and gives ids, not text";
  std::vector<std::string> reasons;
  for (const char* name : {sentencepiece_file, tokenizer_json_file}) {
    const std::string path = (fs::path(directory) / name).string();
    if (!fs::exists(fs::symlink_status(path))) continue;  // a link to nothing is a reason too
    try {
      return Tokenizer::load(path);
    } catch (const Error& e) {
      reasons.push_back(e.what());
    }
  }
  summary.warnings.push_back(
      reasons.empty()
          ? fmt::format("{} has no {} and no {}: {}", directory, sentencepiece_file, tokenizer_json_file, consequence)
          : fmt::format("{}; it is left out: {}", fmt::join(reasons, "; "), consequence));
  return nullptr;
}

NamedFiles tokenizer_files(const std::string& directory, const Config& config, ImportSummary& summary) {
  const std::unique_ptr<const Tokenizer> tokenizer = find_tokenizer(directory, summary);
  if (tokenizer == nullptr) return {};
  require(tokenizer->vocab_size() <= config.model.vocab_size,
          "{} has {} pieces, but config.json says vocab_size {}, so the model has no rows for all of them; move the "
          "tokenizer away to import the weights alone",
          tokenizer->name(), tokenizer->vocab_size(), config.model.vocab_size);
  if (tokenizer->vocab_size() < config.model.vocab_size)
    summary.notes.push_back(
        fmt::format("vocab_size {} is padded: {} has {} pieces; the rows past them are kept, and generate never "
                    "draws them",
                    config.model.vocab_size, tokenizer->name(), tokenizer->vocab_size()));
  return tokenizer->files();
}

/// What the carried chat template is; "" when there is none.
std::string note_about_template(const NamedFiles& carried) {
  const auto program = carried.find(jinja_file);
  if (program == carried.end()) return "";
  if (const ChatTemplate* known = recognize_jinja(program->second))
    return fmt::format("the chat template is {}", known->name);
  return "the chat template is none of those that strand knows; it is carried along for exports, and generate --chat "
         "needs --template";
}
}  // namespace

ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options) {
  require(!out.empty(), "the name of the run to write is empty");
  require_model_directory(directory);
  const std::string parent = parent_of_checkpoint(out);
  const PlaceLock lock = lock_place(parent);
  require_no_checkpoint(parent);
  const std::string config_path = (fs::path(directory) / "config.json").string();
  ForeignConfig foreign =
      read_config_json(read_file(config_path, max_config_bytes), config_path, options.longest_sequence);
  const Family* const family = foreign.family;
  Config& config = foreign.config;
  const TensorSource source(directory, "model");
  require_plausible(*family, config, source);
  ImportSummary summary{.class_name = family->class_name};
  if (const std::string warning = settle_head(*family, config, source); !warning.empty())
    summary.warnings.push_back(warning);
  if (family->settle) {
    const Config as_written = config;
    family->settle(config, [&](const std::string& name) { return is_all_zero(*family, as_written, source, name); });
  }
  complete(config);
  check_config(config);
  const ImportedTensors imported = tensors_for_import(foreign, source);
  summary.notes = imported.notes;

  CheckpointContents contents;
  contents.state.seed = config.run.seed;
  contents.state.versions = {{RunState::origin, family->class_name}};
  contents.config_yaml = to_yaml(config);
  contents.tokenizer = tokenizer_files(directory, config, summary);
  if (!contents.tokenizer.empty()) {
    const NamedFiles carried = files_to_carry(directory, config.model.vocab_size);
    contents.tokenizer.insert(carried.begin(), carried.end());
    if (const std::string note = note_about_template(carried); !note.empty()) summary.notes.push_back(note);
  }
  contents.model = imported.tensors;
  summary.checkpoint = save_checkpoint(parent, contents);
  summary.config = config;
  summary.tensors = static_cast<int64_t>(imported.tensors.size());
  summary.has_tokenizer = !contents.tokenizer.empty();
  return summary;
}

}  // namespace strand::hf
