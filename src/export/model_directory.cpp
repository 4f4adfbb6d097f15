#include "export/model_directory.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "chat/named_templates.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/nearest.h"
#include "export/chat_files.h"
#include "export/model_config.h"

namespace strand::hf {

namespace fs = std::filesystem;

namespace {
constexpr uint64_t max_config_bytes = 16'000'000;

/// Fills in what a run needs besides a model. People who train on set their own values.
void complete(Config& config) {
  config.run.name = "imported";
  config.train.steps = 1000;
  config.train.global_batch_size = config.train.micro_batch_size = 1;
}

bool begins_with_gguf(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return false;
  std::string begin(4, '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == "GGUF";
}

/// The directory itself, when it is one of a model.
const std::string& checked(const std::string& directory) {
  require_model_directory(directory);
  return directory;
}

ForeignConfig read_config(const std::string& directory, int64_t longest_sequence) {
  const std::string path = (fs::path(directory) / "config.json").string();
  return read_config_json(read_file(path, max_config_bytes), path, longest_sequence);
}
}  // namespace

void require_model_directory(const std::string& directory) {
  constexpr const char* wanted =
      "import reads a directory of Hugging Face with config.json and model.safetensors, or with shards and "
      "model.safetensors.index.json";
  if (begins_with_gguf(directory))
    fail(
        "{} is a GGUF file, which strand writes and does not import; import the Hugging Face directory that it was "
        "made "
        "from",
        directory);
  if (!fs::is_directory(directory)) fail("{} is no directory{}: {}", directory, did_you_mean_path(directory), wanted);
  // The directories of Hugging Face's cache hold links to files that may be gone.
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
    const fs::path path = fs::path(directory) / name;
    if (fs::is_symlink(path) && !fs::exists(path))
      fail("{} is a link to {}, which is not there", path.string(), fs::read_symlink(path).string());
  }
  const bool described = fs::exists(fs::path(directory) / "config.json");
  for (const char* name : {"manifest.json", "checkpoints"})
    require(described || !fs::exists(fs::path(directory) / name),
            "{} is a run or a checkpoint of strand, so there is nothing to import: commands take it as it is",
            directory);
  require(described, "{} has no config.json: {}", directory, wanted);
  if (TensorSource::exists(directory, "model")) return;
  for (const char* pickled : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    require(!fs::exists(fs::path(directory) / pickled),
            "{} has its weights in {}, which is for Python alone; save them as safetensors first (with transformers: "
            "AutoModelForCausalLM.from_pretrained(DIRECTORY).save_pretrained(OTHER))",
            directory, pickled);
  fail("{} has no weights: {}", directory, wanted);
}

FoundTokenizer find_tokenizer(const std::string& directory) {
  std::vector<std::string> reasons;
  for (const char* name : {sentencepiece_file, tokenizer_json_file}) {
    const std::string path = (fs::path(directory) / name).string();
    if (!fs::exists(fs::symlink_status(path))) continue;  // a link to nothing is a reason too
    try {
      return {Tokenizer::load(path), ""};
    } catch (const Error& e) {
      reasons.push_back(e.what());
    }
  }
  if (reasons.empty())
    return {nullptr, fmt::format("{} has no {} and no {}", directory, sentencepiece_file, tokenizer_json_file)};
  return {nullptr, fmt::format("{}; it is left out", fmt::join(reasons, "; "))};
}

std::string chat_template_of(const NamedFiles& carried) {
  const auto program = carried.find(jinja_file);
  if (program == carried.end()) return "";
  if (const ChatTemplate* known = recognize_jinja(program->second)) return known->name;
  return "none of those that strand knows; it is carried along for exports, and generate --chat needs --template";
}

ModelDirectory::ModelDirectory(const std::string& directory, const ImportOptions& options)
    : directory_(directory),
      foreign_(read_config(checked(directory), options.longest_sequence)),
      source_(directory, "model") {
  settle();
  complete(foreign_.config);
  check_config(foreign_.config);
  imported_ = tensors_for_import(foreign_, source_);
  notes_ = imported_.notes;
  read_tokenizer();
}

/// Finds out what the tensors alone tell.
void ModelDirectory::settle() {
  const Family& family = *foreign_.family;
  Config& config = foreign_.config;
  require_plausible(family, config, source_);
  if (const std::string warning = settle_head(family, config, source_); !warning.empty()) warnings_.push_back(warning);
  if (!family.settle) return;
  const Config as_written = config;
  family.settle(config, [&](const std::string& name) { return is_all_zero(family, as_written, source_, name); });
}

void ModelDirectory::read_tokenizer() {
  tokenizer_ = find_tokenizer(directory_);
  if (tokenizer_.tokenizer == nullptr) {
    warnings_.push_back(tokenizer_.problem + ": the checkpoint takes and gives ids, not text");
    return;
  }
  const Tokenizer& tokenizer = *tokenizer_.tokenizer;
  const int64_t vocab_size = config().model.vocab_size;
  require(tokenizer.vocab_size() <= vocab_size,
          "{} has {} pieces, but config.json says vocab_size {}, so the model has no rows for all of them; move the "
          "tokenizer away to import the weights alone",
          tokenizer.name(), tokenizer.vocab_size(), vocab_size);
  if (tokenizer.vocab_size() < vocab_size)
    notes_.push_back(
        fmt::format("vocab_size {} is padded: {} has {} pieces; the rows past them are kept, and generate never "
                    "draws them",
                    vocab_size, tokenizer.name(), tokenizer.vocab_size()));
  files_ = tokenizer.files();
  const NamedFiles carried = files_to_carry(directory_, vocab_size);
  files_.insert(carried.begin(), carried.end());
  if (const std::string known = chat_template_of(carried); !known.empty())
    notes_.push_back("the chat template is " + known);
}

}  // namespace strand::hf
