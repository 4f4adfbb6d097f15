#include "checkpoint/tensor_source.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/error.h"
#include "core/strict_json.h"

namespace strand {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {
constexpr uint64_t max_index_bytes = 256'000'000;

std::string join(const std::string& directory, const std::string& name) {
  return (fs::path(directory) / name).string();
}
std::string single_name(const std::string& stem) {
  return stem + ".safetensors";
}
std::string index_name(const std::string& stem) {
  return stem + ".safetensors.index.json";
}

bool is_part_of_set(const std::string& name, const std::string& stem) {
  if (name == single_name(stem) || name == index_name(stem)) return true;
  return name.starts_with(stem + "-") && name.ends_with(".safetensors") && name.find("-of-", stem.size()) != name.npos;
}

void refuse_strangers(const std::string& directory, const std::string& stem, const std::set<std::string>& own) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    require(!is_part_of_set(name, stem) || own.contains(name),
            "{} holds {}, which readers would take for part of what is written now; remove it first", directory, name);
  }
}

bool matches(const TensorEntry& entry, const TensorSpec& spec) {
  return entry.type == spec.dtype && entry.shape == spec.shape;
}
}  // namespace

uint64_t byte_size(const NamedTensor& tensor) {
  const auto bytes = tensor_bytes(tensor.shape, 8 * size_of(tensor.dtype));
  require(bytes.has_value(), "tensor \"{}\" {} is too large", tensor.name, shape_text(tensor.shape));
  return *bytes;
}

std::vector<std::span<const NamedTensor>> cut_into_shards(std::span<const NamedTensor> tensors, uint64_t max_bytes) {
  std::vector<std::span<const NamedTensor>> shards;
  size_t first = 0;
  uint64_t filled = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = byte_size(tensors[i]);
    if (i > first && (filled > max_bytes || bytes > max_bytes - filled)) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      filled = 0;
    }
    filled += bytes;
  }
  shards.push_back(tensors.subspan(first));
  return shards;
}

std::string shard_name(const std::string& stem, size_t index, size_t count) {
  return count == 1 ? single_name(stem) : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, index + 1, count);
}

WrittenFile write_shard_index(const std::string& directory, const std::string& stem,
                              const std::map<std::string, std::string>& file_of_tensor, uint64_t total_bytes) {
  const json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", file_of_tensor}};
  const std::string name = index_name(stem);
  return {name, write_file_atomically(join(directory, name), index.dump(2) + "\n")};
}

std::vector<WrittenFile> write_sharded(const std::string& directory, const std::string& stem,
                                       std::span<const NamedTensor> tensors, uint64_t max_shard_bytes) {
  const auto shards = cut_into_shards(tensors, max_shard_bytes);
  std::set<std::string> own;
  std::map<std::string, std::string> file_of_tensor;
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(stem, i, shards.size());
    own.insert(name);
    for (const NamedTensor& tensor : shards[i]) {
      require(file_of_tensor.emplace(tensor.name, name).second, "{}: two tensors are called \"{}\"",
              join(directory, stem), tensor.name);
      total += byte_size(tensor);
    }
  }
  if (shards.size() > 1) own.insert(index_name(stem));
  refuse_strangers(directory, stem, own);

  std::vector<WrittenFile> written;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(stem, i, shards.size());
    written.push_back({name, write_safetensors(join(directory, name), shards[i])});
  }
  if (shards.size() > 1) written.push_back(write_shard_index(directory, stem, file_of_tensor, total));
  return written;
}

bool TensorSource::exists(const std::string& directory, const std::string& stem) {
  return fs::exists(join(directory, single_name(stem))) || fs::exists(join(directory, index_name(stem)));
}

TensorSource::TensorSource(const std::string& directory, const std::string& stem) : where_(join(directory, stem)) {
  const std::string single = join(directory, single_name(stem)), index_path = join(directory, index_name(stem));
  const bool has_single = fs::exists(single), has_index = fs::exists(index_path);
  require(has_single || has_index, "{} holds neither {} nor {}", directory, single_name(stem), index_name(stem));
  require(!(has_single && has_index), "{} holds both {} and {}: remove the one that does not belong there", directory,
          single_name(stem), index_name(stem));
  has_single ? add_file(single) : add_shards(directory, index_path);
}

void TensorSource::add_shards(const std::string& directory, const std::string& index_path) {
  const std::string index_file = fs::path(index_path).filename().string();
  const json index = parse_strict_json(read_file(index_path, max_index_bytes), index_path);
  const json& map = json_object(index, "weight_map", index_path);
  std::map<std::string, std::set<std::string>> names_of_file;
  for (const auto& [name, file] : map.items()) {
    require(file.is_string(), "{}: the file of tensor \"{}\" is no string", index_path, name);
    const auto file_name = file.get<std::string>();
    require(!file_name.empty() && fs::path(file_name).filename() == file_name && file_name != "." && file_name != "..",
            "{}: tensor \"{}\" lies in \"{}\", which is no plain file name", index_path, name, file_name);
    names_of_file[file_name].insert(name);
  }
  for (const auto& [file_name, names] : names_of_file) {
    const std::string path = join(directory, file_name);
    require(fs::exists(path), "{}: the shard {} is missing", index_path, file_name);
    add_file(path);
    for (const TensorEntry& entry : files_.back().tensors()) {
      require(names.contains(entry.name), "{} holds tensor \"{}\", which {} does not place there", path, entry.name,
              index_file);
    }
    for (const std::string& name : names) {
      require(files_.back().find(name) != nullptr, "{} does not hold tensor \"{}\", which {} places there", path, name,
              index_file);
    }
  }
}

void TensorSource::add_file(const std::string& path) {
  const SafetensorsFile& file = files_.emplace_back(path);
  for (const TensorEntry& entry : file.tensors()) items_[entry.name] = {&file, &entry};
}

uint64_t TensorSource::total_bytes() const {
  uint64_t total = 0;
  for (const auto& [name, item] : items_) total += item.entry->bytes();
  return total;
}

const TensorSource::Item& TensorSource::at(const std::string& name) const {
  const auto found = items_.find(name);
  if (found != items_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [other, item] : items_) names.push_back(other);
  const std::string near = nearest_word(name, names.data(), names.data() + names.size());
  fail("{}: no tensor \"{}\"{}", where_, name, near.empty() ? "" : fmt::format("; the nearest name is \"{}\"", near));
}

std::span<const std::byte> TensorSource::require_tensor(const TensorSpec& spec) const {
  const Item& item = at(spec.name);
  require(matches(*item.entry, spec), "{}: tensor \"{}\" is {} {} and should be {} {}", where_, spec.name,
          item.entry->dtype, shape_text(item.entry->shape), safetensors_name(spec.dtype), shape_text(spec.shape));
  return item.bytes();
}

Tensor TensorSource::tensor(const TensorSpec& spec) const {
  const auto bytes = require_tensor(spec);
  const auto& s = spec.shape;
  require(s.size() <= Shape::max_rank, "{}: tensor \"{}\" {} has more than {} dimensions", where_, spec.name,
          shape_text(s), int{Shape::max_rank});
  require(reinterpret_cast<uintptr_t>(bytes.data()) % size_of(spec.dtype) == 0,
          "{}: tensor \"{}\" is not aligned to its elements; write the file again with padding", where_, spec.name);
  Shape shape = s.empty()       ? Shape{}
                : s.size() == 1 ? Shape{s[0]}
                : s.size() == 2 ? Shape{s[0], s[1]}
                : s.size() == 3 ? Shape{s[0], s[1], s[2]}
                                : Shape{s[0], s[1], s[2], s[3]};
  return {const_cast<std::byte*>(bytes.data()), spec.dtype, shape};
}

}  // namespace strand
