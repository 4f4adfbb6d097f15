#include "train/checkpoint_saver.h"

#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "core/clock.h"
#include "train/agreed.h"
#include "train/model_state.h"

namespace strand {

namespace {
/// The place of this rank's shards, of which there are `mine`, among those of all ranks.
WriterPlace::Shards place_among(ControlChannel& hosts, size_t mine) {
  WriterPlace::Shards shards;
  const std::vector<int64_t> counts = hosts.all_gather(static_cast<int64_t>(mine));
  for (size_t r = 0; r < counts.size(); ++r) {
    if (r < static_cast<size_t>(hosts.rank())) shards.first += static_cast<size_t>(counts[r]);
    shards.total += static_cast<size_t>(counts[r]);
  }
  return shards;
}

/// A thread that does `work`. When the system starts no more threads (a limit of processes), the work is done here, and
/// training waits for it.
template <typename Work>
std::thread started_or_run(const Work& work) {
  try {
    return std::thread(work);
  } catch (const std::system_error&) {
    work();
    return {};
  }
}
}  // namespace

CheckpointSaver::CheckpointSaver(std::string parent, Session& session, Mode mode, const Retention& retention)
    : parent_(std::move(parent)), session_(session), mode_(mode), retention_(retention) {
  ControlChannel& hosts = session.grid().control();
  place_ = {.writer = hosts.rank(), .writers = hosts.size()};
  if (mode == Mode::wait && hosts.size() == 1) return;
  snapshot_ = std::make_unique<Snapshot>(session);
  place_.model = place_among(hosts, shard_count(snapshot_->model()));
  place_.optimizer = place_among(hosts, shard_count(snapshot_->optimizer()));
}

CheckpointSaver::~CheckpointSaver() {
  abandon_ = true;  // a rank that leaves early waits for nobody
  if (thread_.joinable()) thread_.join();
}

CheckpointContents CheckpointSaver::contents_of(const Content& content) const {
  CheckpointContents contents;
  contents.state = content.state;
  contents.config_yaml = content.config_yaml;
  contents.tokenizer = content.tokenizer;
  if (!snapshot_) return contents;
  contents.model = snapshot_->model();
  contents.optimizer = snapshot_->optimizer();
  return contents;
}

/// Writes this rank's share of a checkpoint. The first rank returns when the whole checkpoint is there.
void CheckpointSaver::write(const Content& content) {
  const double begin = now();
  if (snapshot_) snapshot_->wait();
  CheckpointContents contents = contents_of(content);
  if (place_.writer > 0) return write_checkpoint_part(parent_, contents, place_);
  std::vector<NamedTensor> model, optimizer;
  if (!snapshot_) {
    contents.model = model = model_tensors(session_);
    contents.optimizer = optimizer = optimizer_tensors(session_);
  }
  if (place_.writers == 1)
    save_checkpoint(parent_, contents);
  else
    finish_shared_checkpoint(*writer_, contents, place_,
                             static_cast<double>(session_.config().parallel.watchdog_seconds), abandon_);
  newest_step_ = content.state.step;
  prune_checkpoints(parent_, retention_);
  saved_.write_seconds = now() - begin;
}

/// Makes the directory in which the ranks meet. When this returns, all ranks can use it.
void CheckpointSaver::begin_together(int64_t step) {
  writer_.reset();
  abandon_ = false;
  if (place_.writers == 1) return;
  agreed(session_.grid().control(), [&] {
    if (place_.writer == 0) writer_ = CheckpointWriter::create(parent_, step);
  });
}

CheckpointSaver::Saved CheckpointSaver::save(Content content) {
  const double begin = now();
  const Saved before = finish();
  if (snapshot_) snapshot_->take();
  begin_together(content.state.step);
  saved_ = {};
  done_ = false;
  const int64_t step = content.state.step;
  const auto run = [this, content = std::move(content)] {
    try {
      write(content);
    } catch (...) {
      error_ = std::current_exception();
    }
    done_ = true;
  };
  if (mode_ == Mode::wait) {
    run();
    throw_if_failed();
  } else {
    thread_ = started_or_run(run);
  }
  in_flight_ = step;
  saved_.stall_seconds = now() - begin;
  return before;
}

/// When the thread of any rank failed, all ranks throw Error with the message of the lowest such rank.
void CheckpointSaver::throw_if_failed() {
  const std::exception_ptr error = std::exchange(error_, nullptr);
  agreed(session_.grid().control(), [&] {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Abandoned&) {
      // The rank that failed first has the better message.
    }
  });
}

CheckpointSaver::Saved CheckpointSaver::finish() {
  if (in_flight_ < 0) return {};
  if (thread_.joinable()) thread_.join();
  const int64_t step = std::exchange(in_flight_, -1);
  newest_step_ = session_.grid().control().all_reduce_max(newest_step_);
  throw_if_failed();
  saved_.step = newest_step_ = step;
  saved_.path = (std::filesystem::path(parent_) / checkpoint_name(step)).string();
  return std::exchange(saved_, {});
}

CheckpointSaver::Saved CheckpointSaver::poll() {
  if (in_flight_ < 0) return {};
  constexpr int64_t writing = 0, whole = 1, failed = 2;
  int64_t mine = writing;
  if (done_) mine = error_ ? failed : place_.writer == 0 ? whole : writing;
  const int64_t agreed_state = session_.grid().control().all_reduce_max(mine);
  if (agreed_state == failed) abandon_ = true;
  return agreed_state == writing ? Saved{} : finish();
}

}  // namespace strand
