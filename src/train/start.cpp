#include "train/start.h"

#include <filesystem>

#include "core/error.h"
#include "train/model_state.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
void require_new_run(const std::string& run_directory, const std::string& checkpoints) {
  require(!fs::exists(fs::path(run_directory) / "log.jsonl") && !holds_checkpoints(checkpoints),
          "{} already holds a run; continue it with --resume auto, or set another run.name", run_directory);
}

/// Begins with the checkpoint that the user named. Throws Error when this directory holds a later one.
Start start_from(const std::string& named, const std::string& run_directory, const std::string& own) {
  const Checkpoint checkpoint = open_checkpoint(named);
  std::error_code none;  // own may not exist
  const bool elsewhere = !fs::equivalent(fs::path(checkpoint.path()) / "..", own, none);
  if (elsewhere) {
    require_new_run(run_directory, own);
  } else if (const std::optional<Checkpoint> newest = open_latest(own)) {
    // Otherwise the next --resume auto would jump to a later checkpoint, over steps that were never done again.
    require(newest->state().step <= checkpoint.state().step,
            "cannot continue from {}: this run has a newer checkpoint, {}; move that one away, or set another run.name",
            checkpoint.path(), newest->path());
  }
  return {checkpoint.path(), elsewhere};
}
}  // namespace

std::string run_directory(const RunConfig& run) {
  return (fs::path(run.dir) / run.name).string();
}

Start choose_start(const ResumeChoice& resume, const std::string& run_directory, const std::string& own) {
  const bool named = resume.text != "auto" && resume.text != "never";
  if (resume.weights_only) {
    require(named, "--weights-only needs --resume DIR: whose weights?");
    require_new_run(run_directory, own);
    return {open_checkpoint(resume.text).path(), true};
  }
  if (named) return start_from(resume.text, run_directory, own);
  if (resume.text == "never") {
    require_new_run(run_directory, own);
    return {};
  }
  if (const std::optional<Checkpoint> latest = open_latest(own)) return {latest->path(), false};
  require(!holds_checkpoints(own),
          "{} holds checkpoints, but none is whole; move them away to start again from nothing", own);
  return {};
}

}  // namespace strand
