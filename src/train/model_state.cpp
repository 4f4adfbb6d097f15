#include "train/model_state.h"

#include <fmt/core.h>

#include <cstring>
#include <filesystem>

#include "config/schema.h"
#include "core/error.h"
#include "core/log.h"
#include "kernels/staging.h"

namespace strand {

namespace {
std::vector<int64_t> dims_of(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(shape[i]);
  return dims;
}

/// A device tensor to be written: pieces are downloaded as they are asked for.
NamedTensor named(Ops& ops, const std::string& name, const Tensor& tensor) {
  NamedTensor out;
  out.name = name;
  out.dtype = tensor.dtype;
  out.shape = dims_of(tensor.shape);
  out.read = [&ops, tensor](void* host, size_t offset, size_t bytes) {
    const auto size = static_cast<int64_t>(bytes / size_of(tensor.dtype));
    ops.download({static_cast<std::byte*>(tensor.data) + offset, tensor.dtype, {size}}, host);
  };
  return out;
}

/// Calls body(outside name, tensor) for every logical slice of `field`.
template <typename Body>
void for_each_slice(Session& session, Tensor Parameter::* field, const std::string& prefix, const Body& body) {
  for (const Parameter& p : session.parameters().all())
    for (const LogicalTensor& part : p.logical) body(prefix + part.name, Parameter::slice(p.*field, part));
}

template <typename Body>
void for_each_model_tensor(Session& session, const Body& body) {
  for_each_slice(session, &Parameter::master, "", body);
  for (const Parameters::RouterBias& b : session.parameters().router_biases()) body(b.name, b.bias);
}

template <typename Body>
void for_each_moment(Session& session, const Body& body) {
  for_each_slice(session, &Parameter::m, "m.", body);
  for_each_slice(session, &Parameter::v, "v.", body);
}

template <typename T>
std::vector<double> widen(std::span<const std::byte> bytes) {
  std::vector<double> values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T x;
    std::memcpy(&x, bytes.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, bf16>)
      values[i] = static_cast<float>(x);
    else
      values[i] = static_cast<double>(x);
  }
  return values;
}

void load_tensor(Ops& ops, const TensorSource& source, const std::string& name, const Tensor& tensor) {
  const TensorSource::Item& item = source.at(name);
  require(item.entry->shape == dims_of(tensor.shape), "{}: tensor {} has shape {}, the model needs {}",
          item.file->path(), name, shape_text(item.entry->shape), tensor.shape.to_string());
  const std::span<const std::byte> bytes = item.bytes();
  if (item.entry->type == tensor.dtype) return ops.upload(bytes.data(), tensor);
  if (item.entry->type == DType::f32) return upload_values(ops, tensor, widen<float>(bytes));
  if (item.entry->type == DType::f64) return upload_values(ops, tensor, widen<double>(bytes));
  if (item.entry->type == DType::bf16) return upload_values(ops, tensor, widen<bf16>(bytes));
  fail("{}: tensor {} is {}, expected F32, F64 or BF16", item.file->path(), name, item.entry->dtype);
}

/// Nothing may be in `source` that the model does not know.
void require_nothing_else(const TensorSource& source, size_t known, const std::string& what) {
  require(source.items().size() == known, "{}: {} tensors, but the model has {}; was it made with another config?",
          what, source.items().size(), known);
}
}  // namespace

std::vector<NamedTensor> model_tensors(Session& session) {
  std::vector<NamedTensor> tensors;
  for_each_model_tensor(
      session, [&](const std::string& name, const Tensor& t) { tensors.push_back(named(session.ops(), name, t)); });
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(Session& session) {
  std::vector<NamedTensor> tensors;
  for_each_moment(session,
                  [&](const std::string& name, const Tensor& t) { tensors.push_back(named(session.ops(), name, t)); });
  return tensors;
}

void load_model(Session& session, const TensorSource& source) {
  size_t count = 0;
  for_each_model_tensor(session, [&](const std::string& name, const Tensor& t) {
    load_tensor(session.ops(), source, name, t);
    ++count;
  });
  require_nothing_else(source, count, "the checkpoint's weights");
  session.parameters().refresh_act(session.ops());
}

void load_optimizer(Session& session, const TensorSource& source) {
  size_t count = 0;
  for_each_moment(session, [&](const std::string& name, const Tensor& t) {
    load_tensor(session.ops(), source, name, t);
    ++count;
  });
  require_nothing_else(source, count, "the checkpoint's moments");
}

std::optional<Tokenizer> resolve_vocabulary(Config& config) {
  if (config.data.tokenizer.empty()) {
    require(config.model.vocab_size > 0,
            "neither model.vocab_size nor data.tokenizer is set: how large is the vocabulary?");
    return std::nullopt;
  }
  Tokenizer tokenizer = Tokenizer::load(config.data.tokenizer);
  if (config.model.vocab_size == 0) config.model.vocab_size = tokenizer.vocab_size();
  require(config.model.vocab_size == tokenizer.vocab_size(),
          "model.vocab_size is {}, but data.tokenizer {} has {} pieces; set vocab_size to that, or leave it out",
          config.model.vocab_size, config.data.tokenizer, tokenizer.vocab_size());
  return tokenizer;
}

std::optional<Checkpoint> open_latest(const std::string& parent) {
  const LatestCheckpoint latest = find_latest(parent);
  for (const PassedOver& p : latest.passed_over) log_warning(fmt::format("passing over {}: {}", p.path, p.reason));
  if (!latest.path) return std::nullopt;
  return std::make_optional<Checkpoint>(*latest.path, Verification::done);
}

Checkpoint open_checkpoint(const std::string& path) {
  namespace fs = std::filesystem;
  require(fs::is_directory(path), "{}: no such directory", path);
  // What has files of a checkpoint is one, be it a damaged one: nobody who names it wants another.
  for (const char* name : {manifest_name, "state.json"})
    if (fs::exists(fs::path(path) / name)) return Checkpoint(path);
  for (const std::string& parent : {path, (fs::path(path) / "checkpoints").string()})
    if (std::optional<Checkpoint> latest = open_latest(parent)) return std::move(*latest);
  fail("{}: no undamaged checkpoint in it", path);
}

Config checkpoint_config(const Checkpoint& checkpoint) {
  Config config = parse_config(checkpoint.config_yaml(), checkpoint.path() + "/config.yaml");
  if (!checkpoint.tokenizer_model().empty()) config.data.tokenizer = checkpoint.tokenizer_path();
  return config;
}

}  // namespace strand
