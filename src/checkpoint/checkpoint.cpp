#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "checkpoint/carried_files.h"
#include "checkpoint/run_state.h"
#include "core/error.h"
#include "core/temporary_path.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr const char* config_name = "config.yaml";
/// The file by which a tokenizer is opened is the first of these that is there.
constexpr const char* tokenizer_names[] = {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"};
constexpr const char* state_name = "state.json";
constexpr uint64_t max_text_bytes = 16'000'000;
constexpr uint64_t max_tokenizer_bytes = uint64_t{1} << 30;

std::string join(const std::string& directory, const std::string& name) {
  return (fs::path(directory) / name).string();
}

/// The name under which a checkpoint is built, and to which one is renamed before it is removed.
std::string temporary_name(const std::string& name) {
  return "." + name + ".tmp";
}

/// The step in a name such as "step_00001000"; none for a name of another form.
std::optional<int64_t> step_of_name(const std::string& name) {
  constexpr std::string_view prefix = "step_";
  if (!name.starts_with(prefix)) return {};
  const std::string digits = name.substr(prefix.size());
  if (digits.size() < 8 || digits.size() > 18) return {};
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return {};
  const int64_t step = std::stoll(digits);
  return checkpoint_name(step) == name ? std::optional(step) : std::nullopt;
}

/// A signal's handler puts ".tmp" after a name that it is removing (core/temporary_path.cpp).
bool is_leftover(std::string name) {
  constexpr std::string_view suffix = ".tmp";
  if (!name.starts_with('.') || !name.ends_with(suffix)) return false;
  while (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  return !name.empty() && step_of_name(name.substr(1)).has_value();
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  if (!fs::exists(directory)) return names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  return names;
}

struct Found {
  int64_t step;
  std::string path;
};

std::vector<Found> checkpoints_newest_first(const std::string& parent) {
  std::vector<Found> found;
  for (const std::string& name : names_in(parent)) {
    if (const auto step = step_of_name(name)) found.push_back({*step, join(parent, name)});
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.step > b.step; });
  return found;
}

/// Why `found` cannot be used; none when it can be.
std::optional<std::string> fault_of(const Found& found) {
  try {
    verify_checkpoint(found.path);
    const std::string path = join(found.path, state_name);
    const int64_t step = run_state_from_json(read_file(path, max_text_bytes), path).step;
    require(step == found.step, "{} is of step {}: the directory was renamed", path, step);
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

/// Renames `temporary` to `target`. What had that name before is removed.
void publish(const std::string& temporary, const std::string& target) {
  if (!fs::exists(fs::symlink_status(target))) return rename_path(temporary, target);
  if (file_layer().exchange(temporary, target) != 0) {
    const bool unsupported = errno == EINVAL || errno == ENOSYS;
    if (!unsupported) fail_errno("replace", target);
    fail("{} exists, and its file system cannot replace a directory in one step: move it elsewhere", target);
  }
  sync_directory(parent_directory(target));
  remove_tree(temporary);
}
}  // namespace

std::string checkpoint_name(int64_t step) {
  require(step >= 0, "a checkpoint of step {}", step);
  return fmt::format("step_{:08}", step);
}

// ---- Writing ------------------------------------------------------------------------------------------------------

CheckpointWriter::CheckpointWriter(const std::string& parent, int64_t step)
    : parent_(parent),
      final_(strand::join(parent, checkpoint_name(step))),
      temporary_(strand::join(parent, temporary_name(checkpoint_name(step)))) {}

CheckpointWriter CheckpointWriter::create(const std::string& parent, int64_t step) {
  make_directories(parent);
  remove_leftovers(parent);
  CheckpointWriter writer(parent, step);
  make_directories(writer.temporary_);
  return writer;
}

CheckpointWriter CheckpointWriter::join(const std::string& parent, int64_t step) {
  CheckpointWriter writer(parent, step);
  require(fs::is_directory(writer.temporary_), "{} is missing: the first writer has not created it", writer.temporary_);
  return writer;
}

void CheckpointWriter::write_file(const std::string& name, std::string_view bytes) {
  add({name, write_file_atomically(strand::join(temporary_, name), bytes)});
}

void CheckpointWriter::write_state(const RunState& state) {
  write_file(state_name, run_state_to_json(state));
}

void CheckpointWriter::write_tensors(const std::string& stem, std::span<const NamedTensor> tensors,
                                     uint64_t max_shard_bytes) {
  for (const WrittenFile& file : write_sharded(temporary_, stem, tensors, max_shard_bytes)) add(file);
}

void CheckpointWriter::add(const WrittenFile& file) {
  require(files_.emplace(file.name, file.digest).second, "{} is written twice", strand::join(temporary_, file.name));
}

std::string CheckpointWriter::commit() {
  for (const char* needed : {state_name, config_name}) {
    require(files_.contains(needed), "a checkpoint without {} is not committed", needed);
  }
  write_manifest(temporary_, files_);  // each file synced the directory after its rename
  publish(temporary_, final_);
  sync_directory(parent_);
  return final_;
}

void write_once(CheckpointWriter& writer, const CheckpointContents& contents) {
  writer.write_file(config_name, contents.config_yaml);
  for (const auto& [name, bytes] : contents.tokenizer) writer.write_file(name, bytes);
  writer.write_state(contents.state);
}

void discard(const CheckpointWriter& writer) {
  try {
    remove_leftovers(parent_directory(writer.directory()));
  } catch (const Error&) {
    // This removal is meant to free a full disk. Its failure is not reported, because an error is being reported
    // already.
  }
}

std::string save_checkpoint(const std::string& parent, const CheckpointContents& contents, uint64_t max_shard_bytes) {
  CheckpointWriter writer = CheckpointWriter::create(parent, contents.state.step);
  const TemporaryPath pending(writer.directory());
  try {
    writer.write_tensors(model_stem, contents.model, max_shard_bytes);
    if (!contents.optimizer.empty()) writer.write_tensors(optimizer_stem, contents.optimizer, max_shard_bytes);
    write_once(writer, contents);
    return writer.commit();
  } catch (...) {
    discard(writer);
    throw;
  }
}

// ---- Reading ------------------------------------------------------------------------------------------------------

void verify_checkpoint(const std::string& path) {
  require(fs::is_directory(path), "{} is not a directory", path);
  verify_manifest(path);
  const Manifest files = read_manifest(path);
  for (const char* needed : {state_name, config_name}) {
    require(files.contains(needed), "{} holds no {}", path, needed);
  }
  require(TensorSource::exists(path, model_stem), "{} holds no model", path);
}

Checkpoint::Checkpoint(const std::string& path, Verification verification) : path_(path) {
  if (verification == Verification::needed) verify_checkpoint(path);
  const std::string state_path = join(path, state_name);
  state_ = run_state_from_json(read_file(state_path, max_text_bytes), state_path);
  config_yaml_ = read_file(join(path, config_name), max_text_bytes);
  for (const char* name : tokenizer_names)
    if (fs::exists(join(path, name))) tokenizer_.emplace(name, read_file(join(path, name), max_tokenizer_bytes));
  if (!tokenizer_.empty())
    for (const auto& [name, digest] : read_manifest(path))
      if (is_carried(name)) tokenizer_.emplace(name, read_file(join(path, name), max_text_bytes));
  model_ = std::make_unique<TensorSource>(path, model_stem);
  if (TensorSource::exists(path, optimizer_stem)) optimizer_ = std::make_unique<TensorSource>(path, optimizer_stem);
}

std::string Checkpoint::tokenizer_path() const {
  for (const char* name : tokenizer_names)
    if (tokenizer_.contains(name)) return join(path_, name);
  fail("{} holds no tokenizer", path_);
}

const TensorSource& Checkpoint::optimizer() const {
  require(has_optimizer(),
          "{} holds weights only, no optimizer state: it can start a new run (train --resume DIR "
          "--weights-only, with a run.name of its own), not continue one",
          path_);
  return *optimizer_;
}

LatestCheckpoint find_latest(const std::string& parent) {
  LatestCheckpoint latest;
  for (const Found& found : checkpoints_newest_first(parent)) {
    const auto fault = fault_of(found);
    if (!fault) {
      latest.path = found.path;
      break;
    }
    latest.passed_over.push_back({found.path, *fault});
  }
  return latest;
}

void remove_leftovers(const std::string& parent) {
  for (const std::string& name : names_in(parent)) {
    if (is_leftover(name)) remove_tree(join(parent, name));
  }
}

bool holds_checkpoints(const std::string& parent) {
  return !checkpoints_newest_first(parent).empty();
}

std::vector<std::string> prune_checkpoints(const std::string& parent, const Retention& retention) {
  require(retention.keep >= 1, "a run keeps at least one checkpoint, not {}", retention.keep);
  remove_leftovers(parent);
  std::vector<std::string> removed;
  int64_t kept = 0;
  for (const Found& found : checkpoints_newest_first(parent)) {
    if (fault_of(found)) continue;
    if (kept++ < retention.keep) continue;
    if (retention.keep_every > 0 && found.step % retention.keep_every == 0) continue;
    const std::string doomed = join(parent, temporary_name(checkpoint_name(found.step)));
    rename_path(found.path, doomed);
    sync_directory(parent);
    remove_tree(doomed);
    removed.push_back(found.path);
  }
  return removed;
}

}  // namespace strand
