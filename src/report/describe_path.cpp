#include "report/describe_path.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/checkpoint.h"
#include "checkpoint/describe.h"
#include "checkpoint/manifest.h"
#include "config/model_size.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/nearest.h"
#include "core/number_text.h"
#include "data/describe.h"
#include "data/tokenizer.h"
#include "report/describe_model.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr char megatron_magic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr int32_t llmc_magics[] = {20240520, 20240801};
constexpr char sentencepiece_first_byte = 0x0A;  // protobuf: field 1 (pieces), length-delimited

/// The first bytes of a file, filled up with zeros where the file is shorter.
struct Beginning {
  std::array<char, 16> bytes{};
  uint64_t size = 0;  ///< of the file
};

Beginning beginning_of(const std::string& path) {
  Beginning b;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_errno("open", path);
  file.read(b.bytes.data(), static_cast<std::streamsize>(b.bytes.size()));
  b.size = fs::file_size(path);
  return b;
}

bool is_megatron_index(const std::string& path) {
  if (!fs::is_regular_file(path)) return false;
  const Beginning b = beginning_of(path);
  return std::memcmp(b.bytes.data(), megatron_magic, sizeof megatron_magic) == 0;
}

bool is_gguf(const Beginning& b) {
  return std::memcmp(b.bytes.data(), "GGUF", 4) == 0;
}

bool is_llmc(const Beginning& b) {
  int32_t magic = 0;
  std::memcpy(&magic, b.bytes.data(), sizeof magic);
  return b.size >= 1024 && (magic == llmc_magics[0] || magic == llmc_magics[1]);
}

/// Whether the file begins with a length that fits the file, followed by a JSON object.
bool is_safetensors(const Beginning& b) {
  uint64_t header = 0;
  std::memcpy(&header, b.bytes.data(), sizeof header);
  return b.size > 8 && header <= b.size - 8 && b.bytes[8] == '{';
}

bool is_tokenizer(const Beginning& b, const std::string& path) {
  if (b.size == 0 || (b.bytes[0] != sentencepiece_first_byte && b.bytes[0] != '{')) return false;
  try {
    Tokenizer::load(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string index_beside(const std::string& path) {
  return fs::path(path).replace_extension(".idx").string();
}

std::optional<PathKind> kind_by_content(const std::string& path) {
  const Beginning b = beginning_of(path);
  if (is_megatron_index(path)) return PathKind::token_file;
  if (is_gguf(b)) return PathKind::gguf;
  if (is_safetensors(b)) return PathKind::safetensors;
  if (is_llmc(b)) return PathKind::token_file;
  if (is_tokenizer(b, path)) return PathKind::tokenizer;
  return std::nullopt;
}

/// The kind that the name suggests. It is used for files that are damaged at the start: the reader of that kind can say
/// best what is wrong.
std::optional<PathKind> kind_by_name(const std::string& path) {
  const std::string extension = fs::path(path).extension().string();
  if (extension == ".bin" && is_megatron_index(index_beside(path))) return PathKind::token_file;
  if (extension == ".idx") return PathKind::token_file;
  if (extension == ".safetensors") return PathKind::safetensors;
  if (extension == ".gguf") return PathKind::gguf;
  if (extension == ".model" || fs::path(path).filename() == tokenizer_json_file) return PathKind::tokenizer;
  return std::nullopt;
}

/// Whether a folder of checkpoints holds one. Of a run directory that `strand import` made it is all there is.
bool holds_checkpoint(const fs::path& checkpoints) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints, ignored))
    if (fs::exists(entry.path() / manifest_name, ignored)) return true;
  return false;
}

/// Of a Hugging Face model directory there is one of these at least, if only weights that import refuses.
constexpr const char* model_directory_files[] = {"config.json", "model.safetensors", "model.safetensors.index.json",
                                                 "pytorch_model.bin", "pytorch_model.bin.index.json"};

std::optional<PathKind> kind_of_directory(const fs::path& path) {
  if (fs::exists(path / manifest_name)) return PathKind::checkpoint;
  if (fs::exists(path / "config.yaml") && (fs::exists(path / "log.jsonl") || fs::is_directory(path / "checkpoints")))
    return PathKind::run_directory;
  if (holds_checkpoint(path / "checkpoints")) return PathKind::run_directory;
  for (const char* name : model_directory_files)
    if (fs::exists(path / name)) return PathKind::model_directory;
  return std::nullopt;
}
}  // namespace

PathKind identify_path(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (const auto kind = kind_of_directory(path)) return *kind;
    fail(
        "{}: a directory, but neither a checkpoint (no manifest.json), nor a run directory (no config.yaml with a "
        "log.jsonl or checkpoints, and no checkpoint in checkpoints), nor a model directory of Hugging Face (no "
        "config.json and no model.safetensors)",
        path);
  }
  if (!fs::exists(path, ignored)) {
    if (fs::exists(path + ".idx", ignored) || fs::exists(path + ".bin", ignored)) return PathKind::token_file;
    fail("{}: no such file or directory, nor is it the prefix of a token file ({}.idx, {}.bin){}", path, path, path,
         did_you_mean_path(path));
  }
  require(fs::is_regular_file(path, ignored), "{}: neither a file nor a directory", path);
  if (const auto kind = kind_by_content(path)) return *kind;
  if (const auto kind = kind_by_name(path)) return *kind;
  fail(
      "{}: unknown kind of file. Tried: safetensors (a header length and a JSON object), GGUF, Megatron index "
      "(MMIDIDX) or "
      ".bin beside one, llm.c tokens (magic 20240520 or 20240801), SentencePiece model, tokenizer.json. Token files "
      "without a header need --format raw_u16 or raw_i32",
      path);
}

namespace {
/// As many digits of a real number as people read.
std::string value_text(const nlohmann::json& value) {
  return value.is_number_float() ? fmt::format("{:.6g}", value.get<double>()) : value.dump();
}

/// The number of rows, and the last row.
std::string describe_log(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  nlohmann::json last;
  int64_t rows = 0, foreign = 0;
  while (std::getline(file, line)) {
    if (file.eof()) break;  // a row without a newline was cut off
    auto row = nlohmann::json::parse(line, nullptr, false);
    const bool valid = row.is_object() && row.contains("step");
    if (valid) last = std::move(row);
    ++(valid ? rows : foreign);
  }
  std::string text = rows == 0 ? "log.jsonl: no rows" : fmt::format("log.jsonl: {} rows", rows);
  if (rows > 0)
    for (const char* key : {"step", "loss", "ce", "val_loss", "tokens", "tokens_per_second"})
      if (last.contains(key)) text += fmt::format(", {} {}", key, value_text(last[key]));
  if (foreign > 0) text += fmt::format("; DAMAGED: {} lines are no rows", foreign);
  return text + "\n";
}

std::string describe_config(const std::string& path) {
  const Config config = load_config(path);
  const MoeConfig& moe = config.moe;
  std::string text = fmt::format("run {}: {} layers, width {}, {} experts, {} for a token\n", config.run.name,
                                 config.model.num_layers, config.model.hidden_size, moe.num_experts, moe.top_k);
  if (config.model.vocab_size > 0) {
    const ModelSize size = model_size(config);
    text += fmt::format("{} parameters (trained weights, each counted once), {} active for a token (in matrices)\n",
                        grouped_digits(size.parameters), grouped_digits(size.active_parameters));
  }
  return text + fmt::format("{} steps of {} x {} tokens\n", config.train.steps, config.train.global_batch_size,
                            config.data.sequence_length);
}

std::string describe_checkpoints(const fs::path& directory) {
  std::string text;
  const LatestCheckpoint latest = find_latest(directory.string());
  for (const PassedOver& bad : latest.passed_over) text += fmt::format("DAMAGED: {}: {}\n", bad.path, bad.reason);
  return text + fmt::format("newest undamaged checkpoint: {}\n", latest.path.value_or("none"));
}
}  // namespace

std::string describe_run_directory(const std::string& path) {
  const fs::path directory(path);
  std::string text = fmt::format("{}: run directory\n", path);
  if (!fs::exists(directory / "config.yaml")) {
    text += "no config.yaml: nothing was trained in it; its checkpoints have their own\n";
  } else {
    try {
      text += describe_config((directory / "config.yaml").string());
    } catch (const Error& error) {
      text += fmt::format("config.yaml: DAMAGED: {}\n", error.what());
    }
  }
  if (fs::exists(directory / "log.jsonl")) text += describe_log((directory / "log.jsonl").string());
  return text + describe_checkpoints(directory / "checkpoints");
}

namespace {
/// Where the model is described to which a file of weights belongs, or that it stands alone.
std::string about_directory_of(const std::string& path) {
  const fs::path directory = fs::path(path).parent_path();
  const std::string name = directory.empty() ? "." : directory.string();
  std::error_code ignored;
  if (fs::exists(directory / manifest_name, ignored))
    return fmt::format("belongs to a checkpoint: strand inspect {} describes it\n", name);
  if (fs::exists(directory / "config.json", ignored))
    return fmt::format("belongs to a model directory of Hugging Face: strand inspect {} describes the model\n", name);
  return "cannot be imported by itself: strand import reads a directory with config.json beside the weights\n";
}
}  // namespace

std::string describe_path(const std::string& path, const InspectOptions& options) {
  const PathKind kind = options.format == TokenFormat::automatic ? identify_path(path) : PathKind::token_file;
  switch (kind) {
    case PathKind::checkpoint:
      return describe_checkpoint(path);
    case PathKind::run_directory:
      return describe_run_directory(path);
    case PathKind::model_directory:
      return describe_model_directory(path);
    case PathKind::gguf:
      return describe_gguf(path);
    case PathKind::safetensors:
      return describe_safetensors(path) + about_directory_of(path);
    case PathKind::tokenizer:
      return describe_tokenizer(path);
    case PathKind::token_file:
      break;
  }
  if (options.tokenizer.empty()) return describe_token_file(path, options.format);
  const std::unique_ptr<const Tokenizer> tokenizer = Tokenizer::load(options.tokenizer);
  return describe_token_file(path, options.format, tokenizer.get());
}

}  // namespace strand
