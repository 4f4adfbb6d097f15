#pragma once
// The reference files of tests/data, and copies of them with something changed.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "tests/temporary_directory.h"

namespace strand::test {

inline std::string reference_file(const std::string& name) {
  return std::string(STRAND_SOURCE_DIR) + "/tests/data/" + name + ".safetensors";
}

inline std::vector<std::string> all_reference_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(STRAND_SOURCE_DIR) + "/tests/data"))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

/// The content of a safetensors file, which tests change and write elsewhere.
struct EditableFile {
  struct Entry {
    TensorSpec spec;
    std::vector<std::byte> bytes;
    template <typename T>
    T* values() {
      return reinterpret_cast<T*>(bytes.data());
    }
  };
  std::map<std::string, std::string> metadata;
  std::vector<Entry> entries;

  explicit EditableFile(const std::string& path) {
    const SafetensorsFile file(path);
    metadata = file.metadata();
    for (const TensorEntry& e : file.tensors()) {
      const auto bytes = file.bytes(e);
      entries.push_back({{e.name, e.type.value(), e.shape}, {bytes.begin(), bytes.end()}});
    }
  }

  Entry& at(const std::string& name) {
    const auto found =
        std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.spec.name == name; });
    require(found != entries.end(), "no tensor {} to change", name);
    return *found;
  }
  void erase(const std::string& name) { entries.erase(entries.begin() + (&at(name) - entries.data())); }
  /// Replaces `from` by `to` in the metadata's config.
  void edit_config(const std::string& from, const std::string& to) {
    std::string& config = metadata.at("config");
    const size_t place = config.find(from);
    require(place != std::string::npos, "no {} in the config", from);
    config.replace(place, from.size(), to);
  }

  std::string write(const std::string& path) const {
    std::vector<NamedTensor> tensors;
    for (const Entry& e : entries) {
      NamedTensor t;
      static_cast<TensorSpec&>(t) = e.spec;
      t.read = [&e](void* host, size_t offset, size_t bytes) { std::memcpy(host, e.bytes.data() + offset, bytes); };
      tensors.push_back(std::move(t));
    }
    write_safetensors(path, tensors, metadata);
    return path;
  }
};

}  // namespace strand::test
