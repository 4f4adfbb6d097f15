#pragma once
// A copy in pinned host memory of what this rank writes into a checkpoint, made on a stream of its own while the next
// step runs forward and backward: only its update comes after the copy. Of one rank that is everything. Of several,
// each bucket is gathered to one of the ranks that share it (the i-th to rank i modulo their number), which keeps its
// logical tensors; so each rank keeps about as much as any other, and all of them together one copy.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "model/session.h"

namespace strand {

class Snapshot {
 public:
  /// Allocates the memory for the copy, so that a run without enough memory fails before its first step.
  explicit Snapshot(Session& session);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  /// Waits for a copy that is under way.
  ~Snapshot();

  /// Enqueues the copy, and has the next update come after it (Session::hold_update_until). All ranks call it, between
  /// two steps: gradients, spent by then, are where buckets are gathered. The copy before it has been waited for.
  void take();
  /// Waits until the copy is there. Any thread may call it, before it reads the tensors.
  void wait() const { copied_->wait(); }

  /// Tensors over the copy, as model_tensors and optimizer_tensors name them; the same ones for the life of this.
  const std::vector<NamedTensor>& model() const { return model_; }
  const std::vector<NamedTensor>& optimizer() const { return optimizer_; }
  size_t bytes() const { return memory_.bytes(); }

 private:
  /// Where a logical tensor lies in the copy.
  struct Copy {
    int64_t first;  ///< element of its bucket
    Shape shape;
    Tensor OwnedPart::*field;
    size_t at;  ///< byte in memory_
  };
  enum class File : uint8_t { model, optimizer };

  bool keeps(size_t bucket) const;
  void add(File file, const std::string& name, DType dtype, const Shape& shape);
  void add_weights_or_moments(File file, const std::string& prefix, Tensor OwnedPart::*field);
  void copy_bucket(size_t bucket, Tensor OwnedPart::*field);
  Tensor gathered(size_t bucket, Tensor OwnedPart::*field);

  Session& session_;
  std::vector<std::vector<Copy>> copies_;  ///< by bucket
  std::vector<size_t> bias_at_;            ///< of the router biases, which rank 0 keeps
  size_t bytes_ = 0;
  DeviceMemory memory_;  ///< staging
  std::shared_ptr<Event> copied_;
  std::unique_ptr<Event> ready_, gone_;  ///< of a bucket: it may be copied, and its memory may be written again
  std::vector<NamedTensor> model_, optimizer_;
};

}  // namespace strand
