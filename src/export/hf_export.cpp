#include "export/hf_export.h"

#include <filesystem>
#include <optional>

#include "checkpoint/carried_files.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/temporary_path.h"
#include "data/tokenizer.h"
#include "export/chat_files.h"
#include "export/model_config.h"
#include "export/tensor_map.h"
#include "export/tokenizer_files.h"

namespace strand::hf {

namespace fs = std::filesystem;

namespace {
/// A directory that gets its name when it is complete, and is removed when it is not completed.
class PendingDirectory {
 public:
  explicit PendingDirectory(const std::string& path) : final_(fs::path(path).lexically_normal()) {
    if (!final_.has_filename()) final_ = final_.parent_path();  // "out/"
    require(final_.has_filename() && final_.filename() != "." && final_.filename() != "..",
            "{} is no name for a new directory", path);
    std::error_code ignored;
    const bool taken =
        fs::exists(fs::symlink_status(final_)) && !(fs::is_directory(final_) && fs::is_empty(final_, ignored));
    require(!taken, "{} is already there: remove it, or choose another place", path);
    const std::string parent = parent_directory(final_.string());
    make_directories(parent);
    temporary_ = (fs::path(parent) / ("." + final_.filename().string() + ".tmp")).string();
    if (fs::exists(fs::symlink_status(temporary_)))
      remove_tree(temporary_);  // what an export that was interrupted left
    on_signal_.emplace(temporary_);
    try {
      make_directories(temporary_);
    } catch (...) {
      abandon();
      throw;
    }
  }
  ~PendingDirectory() {
    if (!published_) abandon();
  }
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  const std::string& path() const { return temporary_; }
  void write(const std::string& name, std::string_view bytes) const {
    const std::string path = (fs::path(temporary_) / name).string();
    make_directories(parent_directory(path));
    write_file_atomically(path, bytes);
  }
  void publish() {
    rename_path(temporary_, final_.string());  // its files and their names in it are synced
    sync_directory(parent_directory(final_.string()));
    published_ = true;
  }

 private:
  void abandon() {
    try {
      if (fs::exists(fs::symlink_status(temporary_))) remove_tree(temporary_);
    } catch (const std::exception&) {  // the next export to this place removes what is left
    }
  }

  fs::path final_;
  std::string temporary_;
  std::optional<TemporaryPath> on_signal_;
  bool published_ = false;
};

struct TokenizerPart {
  SpecialTokens special;
  ExportedTokenizer exported;
};

TokenizerPart tokenizer_part(const Checkpoint& checkpoint, const Config& config) {
  if (checkpoint.tokenizer().empty()) return {};
  const auto tokenizer =
      Tokenizer::from_files(without_carried_files(checkpoint.tokenizer()), checkpoint.tokenizer_path());
  return {tokenizer->special(), exported_tokenizer(*tokenizer, config.data.sequence_length)};
}

/// The class from which the checkpoint's weights were imported; "" = none.
std::string origin_of(const Checkpoint& checkpoint) {
  const auto found = checkpoint.state().versions.find(RunState::origin);
  return found == checkpoint.state().versions.end() ? "" : found->second;
}

uint64_t bytes_of(const NamedTensor& tensor) {
  return tensor_bytes(tensor.shape, 8 * size_of(tensor.dtype)).value_or(0);
}
}  // namespace

ExportSummary export_model(const Checkpoint& checkpoint, const Config& config, const std::string& directory,
                           const ExportOptions& options) {
  const Family& family = options.class_name.empty() ? family_for(config, origin_of(checkpoint))
                                                    : requested_family(config, options.class_name);
  const TokenizerPart tokenizer = tokenizer_part(checkpoint, config);
  const ChatPart chat = chat_part(checkpoint, options.chat_template, config.model.vocab_size);
  const std::vector<NamedTensor> tensors = tensors_for_export(family, config, checkpoint.model(), options.dtype);

  PendingDirectory out(directory);
  write_sharded(out.path(), "model", tensors, options.max_shard_bytes);
  out.write("config.json", config_json(family, config, tokenizer.special, options.dtype));
  out.write("generation_config.json", with_eos_ids(generation_config_json(tokenizer.special), chat.eos_ids));
  for (const auto& [name, program] : template_files(chat.templates)) out.write(name, program);
  for (const auto& [name, bytes] : tokenizer.exported.files)
    out.write(name, name == tokenizer_config_file ? with_templates(bytes, chat.templates) : bytes);
  out.publish();

  ExportSummary summary{.class_name = family.class_name,
                        .parameters = count_parameters(family.tensors, config),
                        .has_tokenizer = !checkpoint.tokenizer().empty()};
  for (const NamedTensor& tensor : tensors) {
    ++summary.tensors;
    summary.bytes += bytes_of(tensor);
  }
  if (family.caveats) summary.caveats = family.caveats(config);
  summary.caveats.insert(summary.caveats.end(), chat.remarks.begin(), chat.remarks.end());
  if (!tokenizer.exported.reason.empty())
    summary.caveats.push_back(fmt::format(
        "no tokenizer.json was written, because it would give other ids than {}: {}; use tokenizer.model with "
        "SentencePiece instead of AutoTokenizer",
        checkpoint.tokenizer_path(), tokenizer.exported.reason));
  return summary;
}

}  // namespace strand::hf
