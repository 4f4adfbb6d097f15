#include "export/gguf_file.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

#include "core/error.h"

namespace strand::gguf {

static_assert(std::endian::native == std::endian::little, "values are written as they are in memory");

namespace {
constexpr uint32_t version = 3;
constexpr uint64_t alignment = 32;

/// Types of values in the file.
enum class ValueType : uint32_t { u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9 };

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void append_string(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out += text;
}
void append_key(std::string& out, std::string_view key, ValueType type) {
  append_string(out, key);
  append(out, type);
}
void append_array_head(std::string& out, std::string_view key, ValueType type, size_t count) {
  append_key(out, key, ValueType::array);
  append(out, type);
  append(out, static_cast<uint64_t>(count));
}

uint64_t padding_after(uint64_t bytes) {
  return (alignment - bytes % alignment) % alignment;
}

std::string header(const Metadata& metadata, std::span<const StoredTensor> tensors) {
  std::string out = "GGUF";
  append(out, version);
  append(out, static_cast<uint64_t>(tensors.size()));
  append(out, metadata.count());
  out += metadata.bytes();
  uint64_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    require(tensor.name.size() <= longest_name, "the name {} has more than the {} bytes that GGUF allows", tensor.name,
            longest_name);
    append_string(out, tensor.name);
    append(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent)
      append(out, static_cast<uint64_t>(*extent));
    append(out, tensor.encoding);
    append(out, offset);
    offset += tensor.bytes() + padding_after(tensor.bytes());
  }
  out.append(padding_after(out.size()), '\0');
  return out;
}

void write_data(AtomicFile& file, const std::string& path, const StoredTensor& tensor, std::vector<float>& values,
                std::vector<std::byte>& encoded) {
  const int64_t row = tensor.shape.back(), elements = tensor.elements();
  require(row % block_elements(tensor.encoding) == 0, "{}: rows of {} have {} elements, which is no multiple of {}",
          path, tensor.name, row, block_elements(tensor.encoding));
  const int64_t piece = std::max<int64_t>(piece_elements / row, 1) * row;
  for (int64_t begin = 0; begin < elements; begin += piece) {
    const int64_t count = std::min(piece, elements - begin);
    values.resize(static_cast<size_t>(count));
    encoded.resize(encoded_bytes(tensor.encoding, static_cast<uint64_t>(count)));
    tensor.read(begin, count, values.data());
    const auto too_large = encode(tensor.encoding, values, encoded.data());
    require(!too_large, "{}: tensor {} holds {:g}, which is too large for {}; choose --type f32 or bf16", path,
            tensor.name, too_large.value_or(0), to_string(tensor.encoding));
    file.write(encoded.data(), encoded.size());
  }
  file.write(std::string(padding_after(tensor.bytes()), '\0'));
}
}  // namespace

void Metadata::add_u32(std::string_view key, uint32_t value) {
  append_key(bytes_, key, ValueType::u32);
  append(bytes_, value);
  ++count_;
}
void Metadata::add_f32(std::string_view key, float value) {
  append_key(bytes_, key, ValueType::f32);
  append(bytes_, value);
  ++count_;
}
void Metadata::add_bool(std::string_view key, bool value) {
  append_key(bytes_, key, ValueType::boolean);
  append(bytes_, static_cast<uint8_t>(value));
  ++count_;
}
void Metadata::add_string(std::string_view key, std::string_view value) {
  append_key(bytes_, key, ValueType::string);
  append_string(bytes_, value);
  ++count_;
}
void Metadata::add_strings(std::string_view key, std::span<const std::string> values) {
  append_array_head(bytes_, key, ValueType::string, values.size());
  for (const std::string& value : values) append_string(bytes_, value);
  ++count_;
}
void Metadata::add_f32s(std::string_view key, std::span<const float> values) {
  append_array_head(bytes_, key, ValueType::f32, values.size());
  for (const float value : values) append(bytes_, value);
  ++count_;
}
void Metadata::add_i32s(std::string_view key, std::span<const int32_t> values) {
  append_array_head(bytes_, key, ValueType::i32, values.size());
  for (const int32_t value : values) append(bytes_, value);
  ++count_;
}

int64_t StoredTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

FileDigest write_gguf(const std::string& path, const Metadata& metadata, std::span<const StoredTensor> tensors) {
  AtomicFile file(path);
  file.write(header(metadata, tensors));
  std::vector<float> values;
  std::vector<std::byte> encoded;
  for (const StoredTensor& tensor : tensors) write_data(file, path, tensor, values, encoded);
  return file.commit();
}

}  // namespace strand::gguf
