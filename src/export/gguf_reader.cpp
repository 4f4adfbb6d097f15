#include "export/gguf_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/git_lfs.h"
#include "core/mapped_file.h"

namespace strand::gguf {

namespace {
constexpr std::string_view magic = "GGUF";
constexpr uint64_t default_alignment = 32;
constexpr uint32_t most_dimensions = 4;
constexpr int64_t most_elements = int64_t{1} << 60;
constexpr int deepest_array = 4;

/// The type of a value, as the file has it. The numbers that gguf_file.cpp writes are among them.
enum ValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// A type of tensors: `bytes` bytes hold `elements` elements (ggml: type_traits).
struct ElementType {
  uint32_t number;
  const char* name;
  uint64_t elements, bytes;
};
constexpr ElementType element_types[] = {
    {0, "f32", 1, 4},         {1, "f16", 1, 2},         {2, "q4_0", 32, 18},     {3, "q4_1", 32, 20},
    {6, "q5_0", 32, 22},      {7, "q5_1", 32, 24},      {8, "q8_0", 32, 34},     {10, "q2_k", 256, 84},
    {11, "q3_k", 256, 110},   {12, "q4_k", 256, 144},   {13, "q5_k", 256, 176},  {14, "q6_k", 256, 210},
    {15, "q8_k", 256, 292},   {16, "iq2_xxs", 256, 66}, {17, "iq2_xs", 256, 74}, {18, "iq3_xxs", 256, 98},
    {19, "iq1_s", 256, 50},   {20, "iq4_nl", 32, 18},   {21, "iq3_s", 256, 110}, {22, "iq2_s", 256, 82},
    {23, "iq4_xs", 256, 136}, {24, "i8", 1, 1},         {25, "i16", 1, 2},       {26, "i32", 1, 4},
    {27, "i64", 1, 8},        {28, "f64", 1, 8},        {29, "iq1_m", 256, 56},  {30, "bf16", 1, 2},
    {34, "tq1_0", 256, 54},   {35, "tq2_0", 256, 66},   {39, "mxfp4", 32, 17}};

const ElementType* find_type(uint32_t number) {
  for (const ElementType& type : element_types)
    if (type.number == number) return &type;
  return nullptr;
}

/// The header, read from the front to the back. Nothing is taken of a length before it is known to be there.
class Header {
 public:
  Header(std::span<const std::byte> file, const std::string& where) : file_(file), where_(where) {
    const std::string_view begin(reinterpret_cast<const char*>(file.data()), file.size());
    refuse_lfs_pointer(begin, where);
    require(begin.starts_with(magic), "{}: no GGUF file: it does not begin with {}", where, magic);
    at_ = magic.size();
  }

  FileDescription read() {
    FileDescription found;
    found.version = number<uint32_t>();
    require(found.version == 2 || found.version == 3, "{}: GGUF of version {}, of which 2 and 3 are known{}", where_,
            found.version, found.version > 0xFFFF ? "; it was written for big-endian machines" : "");
    const auto tensors = number<uint64_t>(), keys = number<uint64_t>();
    for (uint64_t i = 0; i < keys; ++i) read_key(found);
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < tensors; ++i) offsets.push_back(read_tensor(found));
    require_data(found, offsets);
    return found;
  }

 private:
  /// The next bytes; they are in the file.
  const std::byte* take(uint64_t bytes) {
    require(bytes <= file_.size() - at_, "{}: the file breaks off in its header: {} bytes at byte {}, but it has {}",
            where_, bytes, at_, file_.size());
    const std::byte* const begin = file_.data() + at_;
    at_ += bytes;
    return begin;
  }

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

  std::string text() {
    const auto bytes = number<uint64_t>();
    return {reinterpret_cast<const char*>(take(bytes)), bytes};
  }

  void read_key(FileDescription& found) {
    const uint64_t place = at_;
    const std::string key = text();
    const auto type = number<uint32_t>();
    require(found.keys.emplace(key, value(type, 0)).second, "{}: key {} at byte {} is there twice", where_, key, place);
  }

  Value value(uint32_t type, int depth) {
    switch (type) {
      case u8:
        return scalar<uint8_t>();
      case i8:
        return scalar<int8_t>();
      case u16:
        return scalar<uint16_t>();
      case i16:
        return scalar<int16_t>();
      case u32:
        return scalar<uint32_t>();
      case i32:
        return scalar<int32_t>();
      case f32:
        return scalar<float>();
      case boolean:
        return scalar<uint8_t>();
      case string:
        return {.text = text()};
      case u64:
        return scalar<uint64_t>();
      case i64:
        return scalar<int64_t>();
      case f64:
        return scalar<double>();
      case array:
        return {.count = skip_array(depth)};
      default:
        fail("{}: a value of type {} before byte {}, which GGUF does not have", where_, type, at_);
    }
  }

  template <typename T>
  Value scalar() {
    return {.number = static_cast<double>(number<T>())};
  }

  uint64_t skip_array(int depth) {
    require(depth < deepest_array, "{}: arrays within arrays at byte {}, deeper than {}", where_, at_, deepest_array);
    const auto type = number<uint32_t>();
    const auto count = number<uint64_t>();
    // Each element takes a byte at least, and reading stops at the end of the file.
    for (uint64_t i = 0; i < count; ++i) value(type, depth + 1);
    return count;
  }

  /// Returns the place of the tensor's data, from the begin of all data.
  uint64_t read_tensor(FileDescription& found) {
    TensorDescription tensor{.name = text(), .type = {}, .shape = {}, .elements = 1, .bytes = {}};
    const auto dimensions = number<uint32_t>();
    require(dimensions <= most_dimensions, "{}: tensor {} has {} dimensions, of which GGUF allows {}", where_,
            tensor.name, dimensions, most_dimensions);
    for (uint32_t d = 0; d < dimensions; ++d) {
      const auto extent = number<uint64_t>();
      require(extent <= static_cast<uint64_t>(most_elements / std::max<int64_t>(tensor.elements, 1)),
              "{}: tensor {} has more than 2^60 elements", where_, tensor.name);
      tensor.elements *= static_cast<int64_t>(extent);
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));
    }
    const auto number_of_type = number<uint32_t>();
    const ElementType* const type = find_type(number_of_type);
    tensor.type = type != nullptr ? type->name : fmt::format("type {}", number_of_type);
    if (type != nullptr) tensor.bytes = bytes_of(tensor, *type);
    found.tensors.push_back(std::move(tensor));
    return number<uint64_t>();
  }

  uint64_t bytes_of(const TensorDescription& tensor, const ElementType& type) const {
    const uint64_t row = tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape.back());
    require(row % type.elements == 0, "{}: tensor {} has rows of {}, which is no multiple of the {} of {}", where_,
            tensor.name, row, type.elements, type.name);
    return static_cast<uint64_t>(tensor.elements) / type.elements * type.bytes;
  }

  /// The data of all tensors is in the file.
  void require_data(const FileDescription& found, const std::vector<uint64_t>& offsets) const {
    const Value* const given = found.find("general.alignment");
    const auto alignment = given != nullptr && given->number && *given->number >= 1 && *given->number <= 1 << 20
                               ? static_cast<uint64_t>(*given->number)
                               : default_alignment;
    const uint64_t begin = (at_ + alignment - 1) / alignment * alignment;
    const uint64_t room = begin < file_.size() ? file_.size() - begin : 0;
    for (size_t i = 0; i < offsets.size(); ++i) {
      const TensorDescription& tensor = found.tensors[i];
      const uint64_t bytes = tensor.bytes.value_or(0);
      require(bytes <= room && offsets[i] <= room - bytes,
              "{}: tensor {} has {} bytes from byte {} on, but the file ends at byte {}: it is incomplete", where_,
              tensor.name, bytes, begin + offsets[i], file_.size());
    }
  }

  std::span<const std::byte> file_;
  const std::string& where_;
  uint64_t at_ = 0;
};
}  // namespace

std::string Value::for_people() const {
  if (text) return *text;
  if (count) return fmt::format("array of {}", *count);
  if (!number) return "";
  const bool whole = std::abs(*number) < 1e15 && std::trunc(*number) == *number;
  return whole ? fmt::format("{:.0f}", *number) : fmt::format("{:.7g}", *number);
}

const Value* FileDescription::find(const std::string& key) const {
  const auto found = keys.find(key);
  return found == keys.end() ? nullptr : &found->second;
}

FileDescription parse_gguf(std::span<const std::byte> file, const std::string& where) {
  return Header(file, where).read();
}

FileDescription read_gguf(const std::string& path) {
  const MappedFile file(path);
  return parse_gguf({file.data(), file.size()}, path);
}

}  // namespace strand::gguf
