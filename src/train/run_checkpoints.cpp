#include "train/run_checkpoints.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/number_text.h"

namespace strand {

RunCheckpoints::RunCheckpoints(const std::string& directory, Session& session, const TrainConfig& config,
                               std::function<void(const std::string&)> news)
    : saver_(directory, session, mode(config), Retention{config.keep, config.keep_every}), news_(std::move(news)) {}

CheckpointSaver::Mode RunCheckpoints::mode(const TrainConfig& config) {
  return config.background_checkpoints ? CheckpointSaver::Mode::background : CheckpointSaver::Mode::wait;
}

void RunCheckpoints::save(CheckpointSaver::Content content) {
  const int64_t step = content.state.step;
  attend([&] { return saver_.save(std::move(content)); });
  last_saved_ = step;
}

void RunCheckpoints::poll() {
  attend([this] { return saver_.poll(); });
}

void RunCheckpoints::finish() {
  attend([this] { return saver_.finish(); });
}

std::string RunCheckpoints::what_is_kept() const {
  return last_whole_ >= 0 ? fmt::format("the checkpoint of step {} is intact", last_whole_)
                          : "no checkpoint had been written";
}

void RunCheckpoints::attend(const std::function<CheckpointSaver::Saved()>& call) {
  CheckpointSaver::Saved saved;
  try {
    saved = call();
  } catch (const std::exception& error) {
    last_whole_ = std::max(last_whole_, saver_.newest_step());
    fail("the checkpoint could not be saved: {}. Stopped; {}", error.what(), what_is_kept());
  }
  if (saved.step < 0) return;
  last_whole_ = saved.step;
  news_(fmt::format("checkpoint {} (training waited {} s, the disk took {} s)", saved.path,
                    fixed_text(saved.stall_seconds, 2), fixed_text(saved.write_seconds, 2)));
}

}  // namespace strand
