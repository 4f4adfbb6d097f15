#pragma once
// The layout of a Megatron .idx file, little-endian, byte by byte:
//   0   "MMIDIDX\0\0"            9 bytes
//   9   u64 version = 1
//   17  u8  dtype code           (TokenType)
//   18  u64 sequence count S
//   26  u64 document count D     entries of the last table: documents + 1
//   34  i32 length[S]            tokens of each sequence
//       i64 pointer[S]           byte of each sequence in the .bin: the running sum of length * size
//       i64 document[D]          first sequence of each document, starting with 0 and ending with S
//       i8  mode[S]              only in multimodal files; ignored
// The tables follow the 34-byte header without padding, so their elements are not aligned.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace strand::megatron {

// The files are little-endian and are read by plain copies. A big-endian machine would have to swap bytes here.
static_assert(std::endian::native == std::endian::little);

constexpr char magic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr uint64_t version = 1;
constexpr uint64_t version_offset = 9;
constexpr uint64_t type_offset = 17;
constexpr uint64_t sequences_offset = 18;
constexpr uint64_t documents_offset = 26;
constexpr uint64_t header_bytes = 34;

constexpr uint64_t lengths_offset = header_bytes;
constexpr uint64_t pointers_offset(uint64_t sequences) {
  return lengths_offset + 4 * sequences;
}
constexpr uint64_t document_table_offset(uint64_t sequences) {
  return pointers_offset(sequences) + 8 * sequences;
}

/// "a/b", "a/b.bin" and "a/b.idx" all name the pair a/b.
inline std::string prefix_of(const std::string& path) {
  return path.ends_with(".bin") || path.ends_with(".idx") ? path.substr(0, path.size() - 4) : path;
}

template <typename T>
T load(const std::byte* file, uint64_t offset) {
  T value;
  std::memcpy(&value, file + offset, sizeof(T));
  return value;
}

}  // namespace strand::megatron
