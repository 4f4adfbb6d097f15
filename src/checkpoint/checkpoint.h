#pragma once
// A checkpoint is a directory `step_00001000/` that holds everything a run needs to continue, and nothing that depends
// on the layout on which it ran.
//   model.safetensors       weights by logical name (several files past a size, see tensor_source.h)
//   optimizer.safetensors   moments, "m.<parameter>" and "v.<parameter>"; absent when only weights are kept
//   config.yaml             the resolved configuration
//   tokenizer.model         the tokenizer, verbatim (or tokenizer.json and perhaps tokenizer_config.json), and beside it
//                           chat templates and generation_config.json (carried_files.h); absent when there is none
//   state.json              RunState
//   manifest.json           sizes and digests of the others (manifest.h)
// A checkpoint is written as `.step_00001000.tmp`. When it is complete and every file and directory is synced, it is
// renamed. So a directory `step_*` is either whole or was damaged afterwards, and the manifest tells which. Nothing
// here knows of devices or ranks: NamedTensor::read supplies the tensors, on the thread that saves, which may be a
// background thread that reads a snapshot.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/tensor_source.h"
#include "core/named_files.h"

namespace strand {

/// What the samples of a run are cut from, and what it is validated on. When the sequence length or a source changes,
/// sample i is another text. The names of the files are not part of it, because a file may be moved.
struct DataState {
  struct Source {
    double weight = 1.0;      ///< of this source among the others
    std::string fingerprint;  ///< of its ids (data/fingerprint.h)
    bool operator==(const Source&) const = default;
  };
  int64_t sequence_length = 0;  ///< tokens; 0 = not recorded: an imported or an older checkpoint
  std::vector<Source> sources;
  std::vector<std::string> validation;  ///< fingerprints of the validation files; empty = none, or not recorded
  bool operator==(const DataState&) const = default;
};

/// The state of a run between two steps. Numbers are restored exactly.
struct RunState {
  int64_t step = 0;           ///< optimizer steps done; the next one has this index
  int64_t next_sample = 0;    ///< index of the first sample of the next step
  int64_t schedule_step = 0;  ///< index at which the schedule continues (differs from step after fine-tuning began)
  int64_t tokens = 0;         ///< trained on so far
  uint64_t seed = 0;
  DataState data;
  std::map<std::string, std::vector<double>> series;  ///< running statistics by name; finite
  std::map<std::string, std::string> versions;        ///< the layout, for people; in a file always "strand"; `origin`

  /// The key in `versions` of the model class from which the weights were imported. Training keeps it.
  static constexpr const char* origin = "imported from";
};

struct CheckpointContents {
  RunState state;
  std::string config_yaml;
  NamedFiles tokenizer;  ///< its files by their usual names, and those of carried_files.h; empty = none
  std::span<const NamedTensor> model;
  std::span<const NamedTensor> optimizer;  ///< empty = none
};

inline constexpr const char* model_stem = "model";
inline constexpr const char* optimizer_stem = "optimizer";
inline constexpr uint64_t default_shard_bytes = uint64_t{5} << 30;

/// Writes a checkpoint in the directory `parent`, which is created when it is missing, and returns its path. A
/// checkpoint of the same step that is already there is replaced in one system call. When it throws Error, nothing new
/// stands under the final name.
std::string save_checkpoint(const std::string& parent, const CheckpointContents& contents,
                            uint64_t max_shard_bytes = default_shard_bytes);

/// Writes a checkpoint in pieces, for several writers that share the work (shared_checkpoint.h). The first writer calls
/// create(), and after that the others call join(). Each writes files. When all are done, the first writer adds the
/// files of the others to its manifest and commits.
class CheckpointWriter {
 public:
  /// Removes what interrupted writers left in `parent` and makes the temporary directory.
  static CheckpointWriter create(const std::string& parent, int64_t step);
  /// Writes into the directory that another process created.
  static CheckpointWriter join(const std::string& parent, int64_t step);

  const std::string& directory() const { return temporary_; }
  void write_file(const std::string& name, std::string_view bytes);
  void write_state(const RunState& state);
  void write_tensors(const std::string& stem, std::span<const NamedTensor> tensors, uint64_t max_shard_bytes);
  /// Adds to the manifest a file of directory() that is complete and synced, whoever wrote it.
  void add(const WrittenFile& file);
  const Manifest& files() const { return files_; }

  /// Writes the manifest, renames the directory and syncs. Returns the final path.
  std::string commit();

 private:
  CheckpointWriter(const std::string& parent, int64_t step);

  std::string parent_;
  std::string final_;
  std::string temporary_;
  Manifest files_;
};

/// Writes what one writer writes for all: configuration, tokenizer and state.
void write_once(CheckpointWriter& writer, const CheckpointContents& contents);
/// Removes what a writer that failed has written, as far as the disk allows it. The next writer removes the rest.
void discard(const CheckpointWriter& writer);

/// Throws Error with the reason when the directory is not a complete, undamaged checkpoint. Reads every byte.
void verify_checkpoint(const std::string& path);

/// Whether the bytes of a checkpoint still have to be compared with the manifest, or have just been (by find_latest).
enum class Verification : uint8_t { needed, done };

/// An undamaged checkpoint, open for reading.
class Checkpoint {
 public:
  /// Verifies the checkpoint, where that is needed. Throws Error when it is damaged.
  explicit Checkpoint(const std::string& path, Verification verification = Verification::needed);

  const std::string& path() const { return path_; }
  const RunState& state() const { return state_; }
  const std::string& config_yaml() const { return config_yaml_; }
  /// The files of the tokenizer; empty when the run had none.
  const NamedFiles& tokenizer() const { return tokenizer_; }
  /// The file by which the tokenizer is opened. Throws Error when there is none.
  std::string tokenizer_path() const;
  const TensorSource& model() const { return *model_; }
  /// Throws Error when the checkpoint holds weights only.
  const TensorSource& optimizer() const;
  bool has_optimizer() const { return optimizer_ != nullptr; }

 private:
  std::string path_;
  RunState state_;
  std::string config_yaml_;
  NamedFiles tokenizer_;
  std::unique_ptr<TensorSource> model_;
  std::unique_ptr<TensorSource> optimizer_;
};

struct PassedOver {
  std::string path;
  std::string reason;
};

struct LatestCheckpoint {
  std::optional<std::string> path;      ///< the newest undamaged one; none = there is none
  std::vector<PassedOver> passed_over;  ///< newer ones, newest first
};

/// Finds the newest undamaged checkpoint in `parent`. Only names `step_<digits>` count. A directory that does not exist
/// holds no checkpoint.
LatestCheckpoint find_latest(const std::string& parent);
/// Whether there is any checkpoint in `parent`, damaged or not.
bool holds_checkpoints(const std::string& parent);

/// Removes what interrupted writers left in `parent`. It must not be called while another thread writes a checkpoint
/// there.
void remove_leftovers(const std::string& parent);

struct Retention {
  int64_t keep = 2;        ///< newest undamaged ones that stay; at least 1
  int64_t keep_every = 0;  ///< those at multiples of so many steps stay for ever; 0 = none
};

/// Keeps the `keep` newest undamaged checkpoints and those at multiples of `keep_every`, and removes the other
/// undamaged ones and what interrupted writers left. Damaged checkpoints stay, so that a person can look at them. A
/// checkpoint loses its name in one rename, so that an interruption leaves no half of one under its name. Returns what
/// was removed. It must not be called while another thread writes a checkpoint there.
std::vector<std::string> prune_checkpoints(const std::string& parent, const Retention& retention);

/// "step_00001000"
std::string checkpoint_name(int64_t step);

}  // namespace strand
