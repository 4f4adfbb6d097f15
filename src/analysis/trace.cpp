#include "analysis/trace.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint/safetensors.h"
#include "core/error.h"

namespace strand {

namespace {
constexpr const char* format_name = "strand-trace-1";
constexpr int64_t max_experts = 65536;  // ids have 16 bits

using Metadata = std::map<std::string, std::string>;

const std::string& entry(const Metadata& metadata, const std::string& key, const std::string& path) {
  const auto found = metadata.find(key);
  require(found != metadata.end(), "{}: its metadata has no entry \"{}\"; this is no trace of strand analyse", path,
          key);
  return found->second;
}

int64_t number(const Metadata& metadata, const std::string& key, const std::string& path) {
  const std::string& text = entry(metadata, key, path);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= 0,
          "{}: its metadata has {} = \"{}\", which is no whole number of at least 0", path, key, text);
  return value;
}

/// The elements of a tensor of this type and shape.
template <typename T>
std::vector<T> values(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape) {
  const TensorEntry* found = file.find(name);
  require(found != nullptr, "{}: there is no tensor \"{}\"; this is no trace of strand analyse", file.path(), name);
  require(found->type == dtype_of<T>() && found->shape == shape, "{}: tensor \"{}\" is {} {}, and {} {} is needed",
          file.path(), name, found->dtype, shape_text(found->shape), safetensors_name(dtype_of<T>()),
          shape_text(shape));
  std::vector<T> read(found->bytes() / sizeof(T));
  if (!read.empty()) std::memcpy(read.data(), file.bytes(*found).data(), found->bytes());
  return read;
}

template <typename T>
NamedTensor named(const std::string& name, const std::vector<T>& values, const std::vector<int64_t>& shape) {
  NamedTensor tensor;
  tensor.name = name;
  tensor.dtype = dtype_of<T>();
  tensor.shape = shape;
  tensor.read = [&values](void* host, size_t offset, size_t bytes) {
    std::memcpy(host, reinterpret_cast<const std::byte*>(values.data()) + offset, bytes);
  };
  return tensor;
}

bool all_different(std::span<const uint16_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (std::find(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1, ids.end(), ids[i]) != ids.end()) return false;
  return true;
}
}  // namespace

void check_trace(const Trace& trace, const std::string& where) {
  require(trace.num_experts >= 1 && trace.num_experts <= max_experts, "{}: {} experts, and 1 to {} can be traced",
          where, trace.num_experts, max_experts);
  require(trace.top_k >= 1 && trace.top_k <= trace.num_experts, "{}: {} experts for a token, of {}", where, trace.top_k,
          trace.num_experts);
  require(trace.sequence_length >= 1, "{}: sequences of {} tokens", where, trace.sequence_length);
  int64_t sequences = 0;
  for (const TraceDomain& domain : trace.domains) {
    require(domain.sequences >= 0 && domain.sequences <= trace.token_count(), "{}: domain \"{}\" has {} sequences",
            where, domain.name, domain.sequences);
    sequences += domain.sequences;
  }
  const int64_t tokens = trace.token_count();
  require(sequences * trace.sequence_length == tokens, "{}: {} tokens, and its domains have {} sequences of {}", where,
          tokens, sequences, trace.sequence_length);
  const auto rows = static_cast<size_t>(tokens);
  require(trace.next.size() == rows && trace.predicted.size() == rows &&
              trace.experts.size() == rows * static_cast<size_t>(trace.layer_count() * trace.top_k),
          "{}: its tensors do not have the same number of tokens", where);
  for (int64_t layer = 0; layer < trace.layer_count(); ++layer) {
    const Selections selections = trace.layer(layer);
    for (int64_t t = 0; t < tokens; ++t) {
      const auto ids = selections[t];
      const bool known = std::all_of(ids.begin(), ids.end(), [&](uint16_t e) { return e < trace.num_experts; });
      require(known && all_different(ids), "{}: token {} does not have {} different experts below {} in layer {}",
              where, t, trace.top_k, trace.num_experts, trace.layers[static_cast<size_t>(layer)]);
    }
  }
}

void write_trace(const std::string& path, const Trace& trace) {
  check_trace(trace, path);
  const int64_t tokens = trace.token_count();
  nlohmann::ordered_json domains = nlohmann::ordered_json::array();
  for (const TraceDomain& domain : trace.domains)
    domains.push_back({{"name", domain.name}, {"sequences", domain.sequences}});
  const Metadata metadata = {{"format", format_name},
                             {"model", trace.model},
                             {"step", std::to_string(trace.step)},
                             {"sequence_length", std::to_string(trace.sequence_length)},
                             {"num_experts", std::to_string(trace.num_experts)},
                             {"layers", nlohmann::json(trace.layers).dump()},
                             {"domains", domains.dump()}};
  const std::vector<NamedTensor> tensors = {named("experts", trace.experts, {tokens, trace.layer_count(), trace.top_k}),
                                            named("tokens", trace.tokens, {tokens}),
                                            named("next", trace.next, {tokens}),
                                            named("predicted", trace.predicted, {tokens})};
  write_safetensors(path, tensors, metadata);
}

Trace read_trace(const std::string& path) {
  const SafetensorsFile file(path);
  const Metadata& metadata = file.metadata();
  const std::string& format = entry(metadata, "format", path);
  require(format == format_name, "{}: its format is \"{}\", and this program reads {}", path, format, format_name);
  const TensorEntry* experts = file.find("experts");
  require(experts != nullptr && experts->shape.size() == 3, "{}: there is no tensor \"experts\" of three dimensions",
          path);
  Trace trace;
  trace.model = entry(metadata, "model", path);
  trace.step = number(metadata, "step", path);
  trace.sequence_length = number(metadata, "sequence_length", path);
  trace.num_experts = number(metadata, "num_experts", path);
  trace.top_k = experts->shape[2];
  try {
    trace.layers = nlohmann::json::parse(entry(metadata, "layers", path)).get<std::vector<int64_t>>();
    for (const auto& domain : nlohmann::json::parse(entry(metadata, "domains", path)))
      trace.domains.push_back({domain.at("name").get<std::string>(), domain.at("sequences").get<int64_t>()});
  } catch (const nlohmann::json::exception& error) {
    fail("{}: layers or domains in its metadata are not what a trace has ({})", path, error.what());
  }
  const int64_t tokens = experts->shape[0];
  trace.experts = values<uint16_t>(file, "experts", {tokens, trace.layer_count(), trace.top_k});
  trace.tokens = values<int32_t>(file, "tokens", {tokens});
  trace.next = values<int32_t>(file, "next", {tokens});
  trace.predicted = values<int32_t>(file, "predicted", {tokens});
  check_trace(trace, path);
  return trace;
}

}  // namespace strand
