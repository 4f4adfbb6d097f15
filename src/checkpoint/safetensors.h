#pragma once
// Safetensors files: read in place through a mapping, written piece by piece so that no tensor need be whole in host
// memory. The format and what is checked: safetensors_header.h.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/safetensors_header.h"
#include "core/file_io.h"
#include "core/mapped_file.h"
#include "core/tensor.h"

namespace strand {

/// Bytes of a tensor that are read and written at a time: enough for a disk and a device copy, few beside any model.
inline constexpr size_t safetensors_piece_bytes = size_t{4} << 20;

/// What a tensor in a file must be.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

/// A tensor to be written. `read` fills `host` with `bytes` bytes of it, from byte `offset` on; pieces are asked for in
/// order, each once. The source may be a device, a snapshot in host memory, or a computation.
struct NamedTensor : TensorSpec {
  std::function<void(void* host, size_t offset, size_t bytes)> read;
};

/// A NamedTensor over host memory that outlives the write.
NamedTensor host_tensor(std::string name, const Tensor& tensor);

/// {"format": "pt"}: what readers of the Hugging Face family expect to find, tensors of any framework included.
std::map<std::string, std::string> standard_metadata();

/// Writes one file, atomically (see AtomicFile); bytes identical to the reference writer's, whatever the order of
/// `tensors`. Throws Error naming file and tensor.
FileDigest write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata = standard_metadata());

/// An open file. Addresses stay valid while it lives (moving it does not move them); the memory is read only.
class SafetensorsFile {
 public:
  /// Checks the whole header; reads no data.
  explicit SafetensorsFile(const std::string& path);

  const std::vector<TensorEntry>& tensors() const { return header_.tensors; }  ///< in order of offset
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::string& path() const { return file_.path(); }

  /// nullptr when there is none of that name.
  const TensorEntry* find(const std::string& name) const;
  /// The bytes of an entry of this file, at any alignment.
  std::span<const std::byte> bytes(const TensorEntry& entry) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace strand
