#pragma once
// Writes checkpoints while training goes on. save() begins a copy of weights and moments in host memory and hands it to
// a thread that waits for the copy, writes, commits and prunes; the next save(), or finish(), waits for it first. The
// next update waits for the copy on the device (train/snapshot.h); where host and device are one, save() copies. With
// Mode::wait save() returns when the checkpoint is on the disk; one rank then copies nothing.
//
// Several ranks write one checkpoint together (snapshot.h: what each writes; checkpoint/shared_checkpoint.h: how their
// threads meet without messages). All of them call save(), finish() and poll(), and get the same answer.
//
// An error of a thread is thrown by the call that waits for it, on every rank; a checkpoint is then missing, never half
// there.
#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/shared_checkpoint.h"
#include "train/snapshot.h"

namespace strand {

class CheckpointSaver {
 public:
  enum class Mode : uint8_t { background, wait };

  struct Content {
    RunState state;
    std::string config_yaml;
    NamedFiles tokenizer;
  };
  struct Saved {
    int64_t step = -1;  ///< -1 = nothing new
    std::string path;
    double stall_seconds = 0;  ///< the host waited for this: for the write before it to end, and to begin the copy
    double write_seconds = 0;  ///< the disk took this
  };

  CheckpointSaver(std::string parent, Session& session, Mode mode, const Retention& retention);
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  /// Waits for a write in progress and begins the next one. Returns what finish() would have returned.
  Saved save(Content content);
  /// Waits for a write in progress. Returns the checkpoint that became whole since the last call.
  Saved finish();
  /// Returns the same as finish(), but does not wait.
  Saved poll();

  /// The step of the newest checkpoint that is on the disk, even if a later one failed; -1 = there is none.
  int64_t newest_step() const { return newest_step_; }

 private:
  void begin_together(int64_t step);
  void write(const Content& content);
  CheckpointContents contents_of(const Content& content) const;
  void throw_if_failed();

  std::string parent_;
  Session& session_;
  Mode mode_;
  Retention retention_;
  std::unique_ptr<Snapshot> snapshot_;
  WriterPlace place_;
  std::optional<CheckpointWriter> writer_;  ///< of the first rank of several
  std::thread thread_;
  int64_t in_flight_ = -1;  ///< step that is being written; -1 = none. The same on all ranks
  std::atomic<bool> done_{true};
  std::atomic<bool> abandon_{false};
  std::atomic<int64_t> newest_step_{-1};
  std::exception_ptr error_;
  Saved saved_;
};

}  // namespace strand
