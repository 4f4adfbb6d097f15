#pragma once
// A set of tensors in one directory under one stem, in one file or in several:
//   <stem>.safetensors
//   <stem>-00001-of-00003.safetensors .. and <stem>.safetensors.index.json = {"metadata": {"total_size": bytes},
//                                                                            "weight_map": {NAME: FILE}}
// Which of the two it is, no caller needs to know.
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace strand {

struct WrittenFile {
  std::string name;  ///< within the directory
  FileDigest digest;
};

/// Tensors go to shards in the order given, a new one when the next tensor would exceed `max_shard_bytes` (a single
/// tensor may). One shard is a plain file without index; the index is written last. Refuses to leave beside its own
/// files others of the same stem, which a reader would take for part of the set.
std::vector<WrittenFile> write_sharded(const std::string& directory, const std::string& stem,
                                       std::span<const NamedTensor> tensors, uint64_t max_shard_bytes);

uint64_t byte_size(const NamedTensor& tensor);

/// The parts of write_sharded for writers that share the work: everyone writes whole shards by write_safetensors under
/// shard_name, one of them the index.
std::vector<std::span<const NamedTensor>> cut_into_shards(std::span<const NamedTensor> tensors, uint64_t max_bytes);
std::string shard_name(const std::string& stem, size_t index, size_t count);  ///< index from 0
WrittenFile write_shard_index(const std::string& directory, const std::string& stem,
                              const std::map<std::string, std::string>& file_of_tensor, uint64_t total_bytes);

class TensorSource {
 public:
  /// Opens all files of the set and checks each, and that every tensor of the index is in exactly the shard it names
  /// and nothing else is there. The index's total_size is not compared: public models often have a wrong one.
  TensorSource(const std::string& directory, const std::string& stem);

  /// Whether a set of that stem is in the directory at all.
  static bool exists(const std::string& directory, const std::string& stem);

  struct Item {
    const SafetensorsFile* file;
    const TensorEntry* entry;
    std::span<const std::byte> bytes() const { return file->bytes(*entry); }
  };

  const std::map<std::string, Item>& items() const { return items_; }
  const std::deque<SafetensorsFile>& files() const { return files_; }
  uint64_t total_bytes() const;

  /// Throws Error naming the tensor (and the nearest name) when it is missing.
  const Item& at(const std::string& name) const;
  /// The bytes of a tensor that must have this type and shape.
  std::span<const std::byte> require_tensor(const TensorSpec& spec) const;
  /// The same as a view of host memory, read only whatever its type says. Needs a rank of at most 4, and an address
  /// aligned to the element (files of this program always are; where others are not, copy the bytes).
  Tensor tensor(const TensorSpec& spec) const;
  /// Throws one Error that lists what is missing, what is there beyond `specs`, and what has another type or shape.
  void require_exactly(std::span<const TensorSpec> specs) const;

 private:
  void add_shards(const std::string& directory, const std::string& index_path);
  void add_file(const std::string& path);

  std::string where_;                  ///< directory/stem, for messages
  std::deque<SafetensorsFile> files_;  ///< items_ point into them: a deque never moves its elements
  std::map<std::string, Item> items_;
};

}  // namespace strand
