#pragma once
// Reads what a GGUF file says of itself, of versions 2 and 3: keys, and names, shapes and types of tensors. The data is
// not read. gguf_file.h says what the format is.
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace strand::gguf {

/// The value of a key. One of the members says what it is; of an array there is the count, and no element.
struct Value {
  std::optional<std::string> text;
  std::optional<double> number;  ///< integers and truth values too
  std::optional<uint64_t> count;

  /// For people: "llama", "4096", "1e-06", "array of 32000"
  std::string for_people() const;
};

struct TensorDescription {
  std::string name;
  std::string type;            ///< "f32", "q4_k"; "type 77" = one that is not known here
  std::vector<int64_t> shape;  ///< the last number is the length of a row
  int64_t elements = 0;
  std::optional<uint64_t> bytes;  ///< none for a type that is not known here
};

struct FileDescription {
  uint32_t version = 0;
  std::map<std::string, Value> keys;
  std::vector<TensorDescription> tensors;  ///< in the order of the file

  /// nullptr when there is no such key.
  const Value* find(const std::string& key) const;
};

/// Throws Error that begins with `where` and names the byte for anything that is not as the format says, for a file
/// that breaks off within its header or within the data of a tensor, and for other versions. `file` is the whole file.
FileDescription parse_gguf(std::span<const std::byte> file, const std::string& where);

/// The same for a file.
FileDescription read_gguf(const std::string& path);

}  // namespace strand::gguf
