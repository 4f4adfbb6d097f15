#pragma once
// Writes checkpoints while training goes on. save() copies weights and moments into host memory (that copy is what
// training waits for) and hands them to a thread that writes, commits and prunes; the next save(), or finish(), waits
// for it first. With Mode::wait nothing is copied and save() returns when the checkpoint is on the disk.
//
// An error of the thread is thrown by the call that waits for it; a checkpoint is then missing, never half there.
#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/session.h"

namespace strand {

class CheckpointSaver {
 public:
  enum class Mode : uint8_t { background, wait };

  struct Content {
    RunState state;
    std::string config_yaml;
    std::string tokenizer_model;
  };
  struct Saved {
    int64_t step = -1;  ///< -1 = nothing new
    std::string path;
    double stall_seconds = 0;  ///< training waited for this: for the write before it to end, and for the copy
    double write_seconds = 0;  ///< the disk took this
  };

  CheckpointSaver(std::string parent, Session& session, Mode mode, const Retention& retention);
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Waits for a write in progress and begins the next. Returns what finish() would have.
  Saved save(Content content);
  /// Waits for a write in progress. Returns the checkpoint that became whole since the last call.
  Saved finish();
  /// The same without waiting.
  Saved poll();

  /// Step of the newest checkpoint that is on the disk, told or not, be it that what followed it failed; -1 = none.
  int64_t newest_step() const { return newest_step_; }

  /// Host memory of the snapshot, bytes; 0 with Mode::wait.
  static size_t snapshot_bytes(const Session& session, Mode mode);

 private:
  void snapshot();
  void write(const Content& content, const std::vector<NamedTensor>& model, const std::vector<NamedTensor>& optimizer);

  std::string parent_;
  Session& session_;
  Mode mode_;
  Retention retention_;
  std::vector<std::byte> memory_;
  std::vector<NamedTensor> model_, optimizer_;  ///< over memory_
  std::thread thread_;
  std::atomic<bool> done_{true};
  std::atomic<int64_t> newest_step_{-1};
  std::exception_ptr error_;
  Saved saved_;
};

}  // namespace strand
