#include "train/model_state.h"

#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <system_error>

#include "config/schema.h"
#include "core/error.h"
#include "core/log.h"
#include "core/nearest.h"
#include "kernels/staging.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr std::array<std::pair<const char*, Tensor OwnedPart::*>, 2> moment_fields{
    {{"m.", &OwnedPart::m}, {"v.", &OwnedPart::v}}};

/// A tensor to be written that lies on the device. Its pieces are downloaded when they are asked for.
NamedTensor named(Ops& ops, const std::string& name, const Tensor& tensor) {
  NamedTensor out;
  out.name = name;
  out.dtype = tensor.dtype;
  out.shape = tensor.shape.dims();
  out.read = [&ops, tensor](void* host, size_t offset, size_t bytes) {
    const auto size = static_cast<int64_t>(bytes / size_of(tensor.dtype));
    ops.device().download({static_cast<std::byte*>(tensor.data) + offset, tensor.dtype, {size}}, host);
  };
  return out;
}

/// Calls body(outside name, parameter, slice) for every logical tensor that this rank holds some of.
template <typename Body>
void for_each_slice(Session& session, const std::string& prefix, const Body& body) {
  for (const Parameter& p : session.parameters().all())
    for (const LogicalTensor& part : p.logical) body(prefix + part.name, p, part);
}

void require_whole(Session& session, const char* what) {
  require(session.grid().ranks() == 1, "{} of {} ranks are not in one place", what, session.grid().ranks());
}

/// The elements of a tensor of a checkpoint as `acc`: those in the file where they are of that type, else converted.
class AccValues {
 public:
  AccValues(const TensorSource& source, const std::string& name, const Shape& shape, DType acc) {
    const TensorSource::Item& item = source.at(name);
    require(item.entry->shape == shape.dims(), "{}: tensor {} has shape {}, the model needs {}", item.file->path(),
            name, shape_text(item.entry->shape), shape.to_string());
    const std::span<const std::byte> bytes = item.bytes();
    data_ = bytes.data();
    if (item.entry->type == acc) return;
    const std::optional<DType> type = item.entry->type;
    require(type == DType::f32 || type == DType::f64 || type == DType::bf16,
            "{}: tensor {} is {}, expected F32, F64 or BF16", item.file->path(), name, item.entry->dtype);
    std::vector<double> values = widened(bytes.data(), *type, shape.elements());
    if (acc == DType::f64)
      f64_ = std::move(values);
    else
      f32_.assign(values.begin(), values.end());
    data_ = acc == DType::f64 ? static_cast<const void*>(f64_.data()) : f32_.data();
  }
  const void* data() const { return data_; }

 private:
  std::vector<float> f32_;
  std::vector<double> f64_;
  const void* data_ = nullptr;
};

/// Throws Error when `source` holds a tensor that the model does not know.
void require_nothing_else(const TensorSource& source, int64_t known, const std::string& what) {
  require(static_cast<int64_t>(source.items().size()) == known,
          "{}: {} tensors, but the model has {}; was it made with another config?", what, source.items().size(), known);
}

void load_moments(Session& session, const TensorSource& source, const std::string& prefix, Tensor OwnedPart::*field) {
  const Parameters& parameters = session.parameters();
  for_each_slice(session, prefix, [&](const std::string& name, const Parameter& p, const LogicalTensor& part) {
    if (intersection(part.range(), p.owned.range).elements == 0) return;
    const AccValues values(source, name, part.shape, parameters.acc());
    parameters.store_owned(session.ops(), p, part, field, values.data());
  });
}
}  // namespace

std::vector<NamedTensor> model_tensors(Session& session) {
  require_whole(session, "the weights");
  std::vector<NamedTensor> tensors;
  for_each_slice(session, "", [&](const std::string& name, const Parameter& p, const LogicalTensor& part) {
    tensors.push_back(named(session.ops(), name, Parameter::slice(p.owned.master, part)));
  });
  for (const Parameters::RouterBias& b : session.parameters().router_biases())
    tensors.push_back(named(session.ops(), b.name, b.bias));
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(Session& session) {
  require_whole(session, "the moments");
  std::vector<NamedTensor> tensors;
  for (const auto& [prefix, field] : moment_fields)
    for_each_slice(session, prefix, [&](const std::string& name, const Parameter& p, const LogicalTensor& part) {
      tensors.push_back(named(session.ops(), name, Parameter::slice(p.owned.*field, part)));
    });
  return tensors;
}

void load_model(Session& session, const TensorSource& source) {
  const Parameters& parameters = session.parameters();
  for_each_slice(session, "", [&](const std::string& name, const Parameter& p, const LogicalTensor& part) {
    parameters.store(session.ops(), p, part, AccValues(source, name, part.shape, parameters.acc()).data());
  });
  for (const Parameters::RouterBias& b : parameters.router_biases())
    session.device().upload(AccValues(source, b.name, b.bias.shape, parameters.acc()).data(), b.bias);
  require_nothing_else(source, parameters.tensors() + static_cast<int64_t>(parameters.router_biases().size()),
                       "the checkpoint's weights");
}

void load_optimizer(Session& session, const TensorSource& source) {
  for (const auto& [prefix, field] : moment_fields) load_moments(session, source, prefix, field);
  require_nothing_else(source, 2 * session.parameters().tensors(), "the checkpoint's moments");
}

std::unique_ptr<const Tokenizer> resolve_vocabulary(Config& config) {
  if (config.data.tokenizer.empty()) {
    require(config.model.vocab_size > 0,
            "neither model.vocab_size nor data.tokenizer is set: how large is the vocabulary?");
    return nullptr;
  }
  std::unique_ptr<const Tokenizer> tokenizer = Tokenizer::load(config.data.tokenizer);
  if (config.model.vocab_size == 0) config.model.vocab_size = tokenizer->vocab_size();
  require(
      config.model.vocab_size >= tokenizer->vocab_size(),
      "model.vocab_size is {}, but data.tokenizer {} has {} pieces; set vocab_size to that or more, or leave it out",
      config.model.vocab_size, config.data.tokenizer, tokenizer->vocab_size());
  return tokenizer;
}

std::optional<Checkpoint> open_latest(const std::string& parent) {
  const LatestCheckpoint latest = find_latest(parent);
  for (const PassedOver& p : latest.passed_over) log_warning(fmt::format("passing over {}: {}", p.path, p.reason));
  if (!latest.path) return std::nullopt;
  return std::make_optional<Checkpoint>(*latest.path, Verification::done);
}

namespace {
/// "step_00000010, step_00000020": the checkpoints in `folder`; empty when there are none.
std::string names_of_checkpoints(const fs::path& folder) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored))
    if (fs::exists(entry.path() / manifest_name, ignored)) names.insert(entry.path().filename().string());
  return fmt::format("{}", fmt::join(names, ", "));
}
}  // namespace

std::string checkpoint_of_step(const std::string& path) {
  const size_t at = path.rfind('@');
  if (fs::exists(path) || at == std::string::npos) return path;
  const std::string run = path.substr(0, at), digits = path.substr(at + 1);
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size() || step < 0) return path;
  std::string others;
  for (const fs::path& folder : {fs::path(run) / "checkpoints", fs::path(run)}) {
    if (fs::is_directory(folder / checkpoint_name(step))) return (folder / checkpoint_name(step)).string();
    if (others.empty()) others = names_of_checkpoints(folder);
  }
  fail("{}: there is no checkpoint {} in {} or in its checkpoints folder{}", path, checkpoint_name(step), run,
       others.empty() ? "" : ", but " + others);
}

Checkpoint open_checkpoint(const std::string& named) {
  const std::string path = checkpoint_of_step(named);
  if (!fs::is_directory(path)) fail("{}: no such directory{}", path, did_you_mean_path(path));
  // A directory that has files of a checkpoint is meant itself, even when it is damaged, and not another one inside it.
  for (const char* name : {manifest_name, "state.json"})
    if (fs::exists(fs::path(path) / name)) return Checkpoint(path);
  for (const std::string& parent : {path, (fs::path(path) / "checkpoints").string()})
    if (std::optional<Checkpoint> latest = open_latest(parent)) return std::move(*latest);
  fail("{}: no undamaged checkpoint in it", path);
}

Config checkpoint_config(const Checkpoint& checkpoint) {
  Config config = parse_config(checkpoint.config_yaml(), checkpoint.path() + "/config.yaml");
  if (!checkpoint.tokenizer().empty()) config.data.tokenizer = checkpoint.tokenizer_path();
  return config;
}

}  // namespace strand
