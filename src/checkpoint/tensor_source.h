#pragma once
// A set of tensors in one directory under one stem, in one file or in several:
//   <stem>.safetensors
//   <stem>-00001-of-00003.safetensors .. and <stem>.safetensors.index.json = {"metadata": {"total_size": bytes},
//                                                                            "weight_map": {NAME: FILE}}
// Callers need not know which of the two it is.
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

/// Writes tensors to shards, in the order given. A new shard begins when the next tensor would make the current one
/// larger than `max_shard_bytes`; a single tensor may be larger. When one shard is enough, it is a plain file without
/// an index. The index is written last. Throws Error when other files of the same stem are in the directory, because a
/// reader would take them for a part of the set.
std::vector<WrittenFile> write_sharded(const std::string& directory, const std::string& stem,
                                       std::span<const NamedTensor> tensors, uint64_t max_shard_bytes);

uint64_t byte_size(const NamedTensor& tensor);

/// The parts of write_sharded, for several writers that share the work: each writes whole shards with write_safetensors
/// under the names of shard_name, and one of them writes the index.
std::vector<std::span<const NamedTensor>> cut_into_shards(std::span<const NamedTensor> tensors, uint64_t max_bytes);
std::string shard_name(const std::string& stem, size_t index, size_t count);  ///< index from 0
WrittenFile write_shard_index(const std::string& directory, const std::string& stem,
                              const std::map<std::string, std::string>& file_of_tensor, uint64_t total_bytes);

class TensorSource {
 public:
  /// Opens and checks all files of the set. Every tensor of the index must be in the shard that the index names, and
  /// the shards must hold no other tensors. The index's total_size is not compared, because it is wrong in many public
  /// models.
  TensorSource(const std::string& directory, const std::string& stem);

  /// Whether the directory holds a set of that stem.
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
  /// The same as a view of host memory. Nobody may write to it, although its type does not say so. The rank must be at
  /// most 4, and the address aligned to the element. In files of this program it always is; of other files, copy the
  /// bytes.
  Tensor tensor(const TensorSpec& spec) const;

 private:
  void add_shards(const std::string& directory, const std::string& index_path);
  void add_file(const std::string& path);

  std::string where_;                  ///< directory/stem, for messages
  std::deque<SafetensorsFile> files_;  ///< items_ point into them: a deque never moves its elements
  std::map<std::string, Item> items_;
};

}  // namespace strand
