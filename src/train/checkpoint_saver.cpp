#include "train/checkpoint_saver.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "train/model_state.h"

namespace strand {

namespace {
double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

size_t bytes_of(const TensorSpec& spec) {
  size_t n = size_of(spec.dtype);
  for (int64_t d : spec.shape) n *= static_cast<size_t>(d);
  return n;
}

size_t bytes_of(const std::vector<NamedTensor>& tensors) {
  size_t n = 0;
  for (const NamedTensor& t : tensors) n += bytes_of(t);
  return n;
}
}  // namespace

CheckpointSaver::CheckpointSaver(std::string parent, Session& session, Mode mode, const Retention& retention)
    : parent_(std::move(parent)), session_(session), mode_(mode), retention_(retention) {
  // Taken now, so that a run that cannot have it fails before its first step.
  memory_.resize(snapshot_bytes(session, mode));
}

CheckpointSaver::~CheckpointSaver() {
  if (thread_.joinable()) thread_.join();
}

size_t CheckpointSaver::snapshot_bytes(const Session& session, Mode mode) {
  if (mode == Mode::wait) return 0;
  auto& open = const_cast<Session&>(session);
  return bytes_of(model_tensors(open)) + bytes_of(optimizer_tensors(open));
}

/// Copies every tensor into memory_ and describes the copies in model_ and optimizer_.
void CheckpointSaver::snapshot() {
  std::byte* to = memory_.data();
  const auto copy = [&](std::vector<NamedTensor> tensors) {
    for (NamedTensor& t : tensors) {
      const size_t bytes = bytes_of(t);
      t.read(to, 0, bytes);
      t.read = [to](void* host, size_t offset, size_t count) { std::memcpy(host, to + offset, count); };
      to += bytes;
    }
    return tensors;
  };
  model_ = copy(model_tensors(session_));
  optimizer_ = copy(optimizer_tensors(session_));
}

void CheckpointSaver::write(const Content& content, const std::vector<NamedTensor>& model,
                            const std::vector<NamedTensor>& optimizer) {
  const double begin = now();
  CheckpointContents contents;
  contents.state = content.state;
  contents.config_yaml = content.config_yaml;
  contents.tokenizer_model = content.tokenizer_model;
  contents.model = model;
  contents.optimizer = optimizer;
  saved_.path = save_checkpoint(parent_, contents);
  newest_step_ = content.state.step;
  prune_checkpoints(parent_, retention_);
  saved_.step = content.state.step;
  saved_.write_seconds = now() - begin;
}

CheckpointSaver::Saved CheckpointSaver::save(Content content) {
  const double begin = now();
  const Saved before = finish();
  if (mode_ == Mode::wait) {
    write(content, model_tensors(session_), optimizer_tensors(session_));
    saved_.stall_seconds = now() - begin;
    return before;
  }
  snapshot();
  saved_ = {.stall_seconds = now() - begin};
  done_ = false;
  thread_ = std::thread([this, content = std::move(content)] {
    try {
      write(content, model_, optimizer_);
    } catch (...) {
      error_ = std::current_exception();
    }
    done_ = true;
  });
  return before;
}

CheckpointSaver::Saved CheckpointSaver::finish() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return std::exchange(saved_, {});
}

CheckpointSaver::Saved CheckpointSaver::poll() {
  return done_ ? finish() : Saved{};
}

}  // namespace strand
