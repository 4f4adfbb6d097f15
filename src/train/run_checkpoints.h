#pragma once
// The checkpoints of one run: saves them, says when one became whole, and knows which one is left when something goes
// wrong.
#include <functional>
#include <string>

#include "train/checkpoint_saver.h"

namespace strand {

class RunCheckpoints {
 public:
  /// `news` shows a line to a person.
  RunCheckpoints(const std::string& directory, Session& session, const TrainConfig& config,
                 std::function<void(const std::string&)> news);
  static CheckpointSaver::Mode mode(const TrainConfig& config);

  /// The run goes on from its own checkpoint of this step.
  void begins_with(int64_t step) { last_saved_ = last_whole_ = step; }
  /// Whether the checkpoint of this step is in the run's directory already, or on its way there.
  bool has(int64_t step) const { return step == last_saved_; }

  // All ranks call these together. They throw Error, which says what is left, when a checkpoint could not be saved.
  void save(CheckpointSaver::Content content);
  void poll();
  /// Waits for a write in progress, so that what is said of checkpoints is true.
  void finish();

  /// "the checkpoint of step 100 is intact"
  std::string what_is_kept() const;

 private:
  void attend(const std::function<CheckpointSaver::Saved()>& call);

  CheckpointSaver saver_;
  std::function<void(const std::string&)> news_;
  int64_t last_saved_ = -1;  ///< step of the newest checkpoint, begun or done
  int64_t last_whole_ = -1;  ///< step of the newest that is on the disk
};

}  // namespace strand
