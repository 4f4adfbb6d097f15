#include "train/snapshot.h"

#include <cstring>

#include "core/error.h"

namespace strand {

namespace {
constexpr Tensor OwnedPart::*fields[] = {&OwnedPart::master, &OwnedPart::m, &OwnedPart::v};

/// The field of a bucket that corresponds to this field of a parameter's owned part.
Tensor of_bucket(const Bucket& b, Tensor OwnedPart::*field) {
  if (field == &OwnedPart::master) return b.master;
  return field == &OwnedPart::m ? b.m : b.v;
}
}  // namespace

Snapshot::Snapshot(Session& session)
    : session_(session),
      copies_(session.parameters().buckets().size()),
      copied_(session.device().make_event()),
      ready_(session.device().make_event()),
      gone_(session.device().make_event()) {
  add_weights_or_moments(File::model, "", &OwnedPart::master);
  if (session.grid().rank() == 0) {
    for (const Parameters::RouterBias& b : session.parameters().router_biases()) {
      bias_at_.push_back(bytes_);
      add(File::model, b.name, b.bias.dtype, b.bias.shape);
    }
  }
  add_weights_or_moments(File::optimizer, "m.", &OwnedPart::m);
  add_weights_or_moments(File::optimizer, "v.", &OwnedPart::v);
  memory_ = DeviceMemory(session.device(), MemoryKind::staging, bytes_);
}

Snapshot::~Snapshot() {
  try {
    copied_->wait();
  } catch (const Error&) {
    // The device has failed, and copies no more.
  }
}

bool Snapshot::keeps(size_t bucket) const {
  const Bucket& b = session_.parameters().buckets()[bucket];
  return bucket % static_cast<size_t>(b.parts) == static_cast<size_t>(b.part);
}

/// Adds a tensor, which follows the ones before it in memory and in its file.
void Snapshot::add(File file, const std::string& name, DType dtype, const Shape& shape) {
  NamedTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = shape.dims();
  tensor.read = [this, at = bytes_](void* host, size_t offset, size_t bytes) {
    std::memcpy(host, static_cast<const std::byte*>(memory_.data()) + at + offset, bytes);
  };
  (file == File::model ? model_ : optimizer_).push_back(std::move(tensor));
  bytes_ += static_cast<size_t>(shape.elements()) * size_of(dtype);
}

void Snapshot::add_weights_or_moments(File file, const std::string& prefix, Tensor OwnedPart::*field) {
  const Parameters& parameters = session_.parameters();
  std::vector<std::pair<size_t, int64_t>> places(parameters.all().size());  // bucket, and first element in it
  for (size_t b = 0; b < parameters.buckets().size(); ++b) {
    const Bucket& bucket = parameters.buckets()[b];
    for (size_t i = 0; i < bucket.parameters.size(); ++i) places[bucket.parameters[i]] = {b, bucket.first[i]};
  }
  for (size_t i = 0; i < places.size(); ++i) {
    const auto [bucket, first] = places[i];
    if (!keeps(bucket)) continue;
    for (const LogicalTensor& part : parameters.all()[i].logical) {
      copies_[bucket].push_back({first + part.offset, part.shape, field, bytes_});
      add(file, prefix + part.name, of_bucket(parameters.buckets()[bucket], field).dtype, part.shape);
    }
  }
}

void Snapshot::take() {
  session_.grid().progress().now("the snapshot for a checkpoint", -1);
  for (size_t b = 0; b < session_.parameters().buckets().size(); ++b)
    for (Tensor OwnedPart::*field : fields) copy_bucket(b, field);
  ready_->record(Stream::compute);
  ready_->hold(Stream::snapshot);
  auto* to = static_cast<std::byte*>(memory_.data());
  for (size_t i = 0; i < bias_at_.size(); ++i)
    session_.device().enqueue_download(session_.parameters().router_biases()[i].bias, to + bias_at_[i],
                                       Stream::snapshot);
  copied_->record(Stream::snapshot);
  session_.hold_update_until(copied_);
}

void Snapshot::copy_bucket(size_t bucket, Tensor OwnedPart::*field) {
  const Tensor whole = gathered(bucket, field);
  if (!whole) return;
  ready_->record(Stream::compute);
  ready_->hold(Stream::snapshot);
  for (const Copy& copy : copies_[bucket]) {
    if (copy.field != field) continue;
    const Tensor from{static_cast<std::byte*>(whole.data) + static_cast<size_t>(copy.first) * size_of(whole.dtype),
                      whole.dtype, copy.shape};
    session_.device().enqueue_download(from, static_cast<std::byte*>(memory_.data()) + copy.at, Stream::snapshot);
  }
  if (whole.data != session_.parameters().buckets()[bucket].gradients.data) return;
  // Other tensors are gathered in this memory next, and then the next step's gradients are written there.
  gone_->record(Stream::snapshot);
  gone_->hold(Stream::compute);
}

/// Gathers a bucket. Returns the whole of it on the rank that keeps it, and none on others.
Tensor Snapshot::gathered(size_t bucket, Tensor OwnedPart::*field) {
  const Bucket& b = session_.parameters().buckets()[bucket];
  const Tensor mine = of_bucket(b, field);
  const bool keep = keeps(bucket), everywhere = field == &OwnedPart::master && mine.dtype == b.weights.dtype;
  if (everywhere) return keep ? b.weights : Tensor{};
  if (b.parts == 1) return mine;
  constexpr int64_t row = ParameterLayout::alignment;
  const int64_t rows = mine.elements() / row;
  const auto parts = static_cast<size_t>(b.parts);
  RankRows send{mine.view({rows, row}), std::vector<int64_t>(parts), std::vector<int64_t>(parts)};
  RankRows receive{b.gradients.view({rows * b.parts, row}), send.first, send.count};
  send.count[bucket % parts] = rows;
  for (size_t p = 0; p < parts && keep; ++p) {
    receive.first[p] = static_cast<int64_t>(p) * rows;
    receive.count[p] = rows;
  }
  b.group(session_.grid()).all_to_all(Traffic::control, OwnRows::sent, send, receive);
  return keep ? b.gradients : Tensor{};
}

}  // namespace strand
