#pragma once
// Safetensors files. They are read in place, as mapped files, and written in pieces, so that no tensor has to be in
// host memory as a whole. safetensors_header.h says what the format is and what is checked.
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

/// How many bytes of a tensor are read and written at a time. This is enough to use a disk and a device well, and small
/// beside any model.
inline constexpr size_t safetensors_piece_bytes = size_t{4} << 20;

/// What a tensor in a file must be.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

/// A tensor to be written. `read` fills `host` with `bytes` bytes of the tensor, beginning at byte `offset`. The writer
/// asks for the pieces in order, and for each of them once. They may come from a device, from a snapshot in host
/// memory, or from a computation.
struct NamedTensor : TensorSpec {
  std::function<void(void* host, size_t offset, size_t bytes)> read;
};

/// A NamedTensor over host memory that outlives the write.
NamedTensor host_tensor(std::string name, const Tensor& tensor);

/// {"format": "pt"}. The readers of Hugging Face's libraries expect this entry, whatever program wrote the tensors.
std::map<std::string, std::string> standard_metadata();

/// Writes one file, which appears when it is complete (AtomicFile). Its bytes are those that the reference writer would
/// write, whatever the order of `tensors`. Throws Error that names file and tensor.
FileDigest write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                             const std::map<std::string, std::string>& metadata = standard_metadata());

/// An open file. Its memory is read only, and addresses in it are valid as long as the object lives; to move the object
/// does not change them.
class SafetensorsFile {
 public:
  /// Opens the file and checks its whole header. The data is not read.
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
