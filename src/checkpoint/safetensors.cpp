#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace strand {

namespace {

void write_data(AtomicFile& file, const NamedTensor& tensor, uint64_t bytes, std::vector<std::byte>& piece) {
  for (uint64_t offset = 0; offset < bytes;) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(bytes - offset, piece.size()));
    tensor.read(piece.data(), offset, count);
    file.write(piece.data(), count);
    offset += count;
  }
}
}  // namespace

NamedTensor host_tensor(std::string name, const Tensor& tensor) {
  NamedTensor named;
  named.name = std::move(name);
  named.dtype = tensor.dtype;
  for (int i = 0; i < tensor.shape.rank(); ++i) named.shape.push_back(tensor.dim(i));
  named.read = [data = static_cast<const std::byte*>(tensor.data)](void* host, size_t offset, size_t bytes) {
    std::memcpy(host, data + offset, bytes);
  };
  return named;
}

std::map<std::string, std::string> standard_metadata() {
  return {{"format", "pt"}};
}

FileDigest write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata) {
  std::vector<TensorEntry> entries;
  std::unordered_map<std::string, const NamedTensor*> by_name;
  uint64_t largest = 0;
  for (const NamedTensor& tensor : tensors) {
    TensorEntry& entry = entries.emplace_back();
    entry.name = tensor.name;
    entry.type = tensor.dtype;
    entry.shape = tensor.shape;
    by_name[tensor.name] = &tensor;
  }
  const std::string header = layout_safetensors(entries, metadata, path);
  for (const TensorEntry& entry : entries) largest = std::max(largest, entry.bytes());

  AtomicFile file(path);
  file.write(header);
  std::vector<std::byte> piece(static_cast<size_t>(std::min<uint64_t>(largest, safetensors_piece_bytes)));
  for (const TensorEntry& entry : entries) write_data(file, *by_name.at(entry.name), entry.bytes(), piece);
  return file.commit();
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(path), header_(parse_safetensors_header({file_.data(), file_.size()}, file_.size(), path)) {
  for (size_t i = 0; i < header_.tensors.size(); ++i) index_[header_.tensors[i].name] = i;
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry& entry) const {
  return {file_.data() + header_.data_start + entry.begin, static_cast<size_t>(entry.bytes())};
}

}  // namespace strand
