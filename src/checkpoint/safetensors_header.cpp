#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_set>

#include "core/error.h"
#include "core/git_lfs.h"

namespace strand {

namespace {
struct StoredType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> type;
};

/// The types in the order of the reference implementation, whose writer sorts tensors by this order, last type first.
constexpr std::array<StoredType, 22> stored_types{{
    {"BOOL", 8, {}},         {"F4", 4, {}},      {"F6_E2M3", 6, {}},      {"F6_E3M2", 6, {}}, {"U8", 8, DType::u8},
    {"I8", 8, {}},           {"F8_E5M2", 8, {}}, {"F8_E4M3", 8, {}},      {"F8_E8M0", 8, {}}, {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},  {"I16", 16, {}},    {"U16", 16, DType::u16}, {"F16", 16, {}},    {"BF16", 16, DType::bf16},
    {"I32", 32, DType::i32}, {"U32", 32, {}},    {"F32", 32, DType::f32}, {"C64", 64, {}},    {"F64", 64, DType::f64},
    {"I64", 64, DType::i64}, {"U64", 64, {}},
}};

const StoredType* find_stored(std::string_view name) {
  const auto found =
      std::find_if(stored_types.begin(), stored_types.end(), [&](const auto& t) { return t.name == name; });
  return found == stored_types.end() ? nullptr : &*found;
}

const StoredType& stored_of(DType type) {
  const auto found =
      std::find_if(stored_types.begin(), stored_types.end(), [&](const auto& t) { return t.type == type; });
  return *found;
}

/// Receives the events of the JSON parser. The header has a fixed grammar, so the state says only what may come next.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(SafetensorsHeader& header, const std::string& where) : header_(header), where_(where) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override { return unexpected("the number " + text); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::shape) {
      if (value > static_cast<uint64_t>(INT64_MAX)) return refuse(fmt::format("dimension {} is too large", value));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (at_ == At::offsets) {
      offsets_.push_back(value);
      if (offsets_.size() > 2) return refuse("data_offsets has more than two numbers");
    } else {
      return unexpected(fmt::format("the number {}", value));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::metadata_value) {
      header_.metadata[metadata_key_] = value;
      at_ = At::metadata;
    } else if (at_ == At::dtype) {
      entry_.dtype = value;
      at_ = At::entry;
    } else {
      return unexpected("a string");
    }
    return true;
  }

  bool start_object(size_t) override {
    if (at_ == At::document) {
      at_ = At::names;
    } else if (at_ == At::metadata_open) {
      at_ = At::metadata;
    } else if (at_ == At::entry_open) {
      at_ = At::entry;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (at_ == At::names) return tensor_name(value);
    if (at_ == At::metadata) {
      at_ = At::metadata_value;
      metadata_key_ = value;
      return !header_.metadata.contains(value) || refuse("the key \"" + value + "\" appears twice");
    }
    return field_name(value);
  }

  bool end_object() override {
    if (at_ == At::metadata) {
      at_ = At::names;
    } else if (at_ == At::entry) {
      if (fields_ != 7) return refuse("it needs dtype, shape and data_offsets");
      if (offsets_.size() != 2) return refuse("data_offsets needs two numbers");
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
      header_.tensors.push_back(std::move(entry_));
      at_ = At::names;
    } else {
      at_ = At::done;
    }
    return true;
  }

  bool start_array(size_t) override {
    if (at_ == At::shape_open) {
      at_ = At::shape;
    } else if (at_ == At::offsets_open) {
      at_ = At::offsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    at_ = At::entry;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail("{}: the header is not valid JSON at its byte {} ({}); the file is damaged", where_, position, error.what());
  }

 private:
  enum class At {
    document,
    names,
    metadata_open,
    metadata,
    metadata_value,
    entry_open,
    entry,
    dtype,
    shape_open,
    shape,
    offsets_open,
    offsets,
    done
  };

  bool tensor_name(const std::string& name) {
    current_ = name;
    if (!names_.insert(name).second) return refuse("the name appears twice");
    if (name == "__metadata__") {
      at_ = At::metadata_open;
      return true;
    }
    entry_ = {};
    entry_.name = name;
    fields_ = 0;
    offsets_.clear();
    at_ = At::entry_open;
    return true;
  }

  bool field_name(const std::string& field) {
    const unsigned bit = field == "dtype" ? 1 : field == "shape" ? 2 : field == "data_offsets" ? 4 : 0;
    if (bit == 0) return refuse("unknown key \"" + field + "\"");
    if ((fields_ & bit) != 0) return refuse("the key \"" + field + "\" appears twice");
    fields_ |= bit;
    at_ = bit == 1 ? At::dtype : bit == 2 ? At::shape_open : At::offsets_open;
    return true;
  }

  [[noreturn]] bool refuse(const std::string& reason) const {
    fail("{}: in the header, at \"{}\": {}", where_, current_, reason);
  }

  [[noreturn]] bool unexpected(const std::string& found) const {
    constexpr std::array<const char*, 13> wanted{"an object",
                                                 "a name",
                                                 "an object of strings",
                                                 "a key",
                                                 "a string",
                                                 "an object",
                                                 "a key",
                                                 "a string",
                                                 "an array of sizes",
                                                 "a size (a whole number of at least 0)",
                                                 "an array of two offsets",
                                                 "an offset (a whole number of at least 0)",
                                                 "nothing"};
    refuse(fmt::format("{} where {} belongs", found, wanted[static_cast<size_t>(at_)]));
  }

  SafetensorsHeader& header_;
  const std::string& where_;
  At at_ = At::document;
  std::string current_ = "(the beginning)";
  std::string metadata_key_;
  std::unordered_set<std::string> names_;
  TensorEntry entry_;
  unsigned fields_ = 0;  ///< bits: which of the three keys have been read
  std::vector<uint64_t> offsets_;
};

std::string_view header_text(std::span<const std::byte> file, uint64_t file_size, const std::string& where) {
  require(file_size >= 8 && file.size() >= 8, "{}: {} bytes are too few for a safetensors file", where, file_size);
  refuse_lfs_pointer({reinterpret_cast<const char*>(file.data()), file.size()}, where);
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<uint64_t>(file[i]);
  require(length <= max_safetensors_header,
          "{}: its first 8 bytes announce a header of {} bytes, and the limit is {}; this is no safetensors file",
          where, length, uint64_t{max_safetensors_header});
  require(length <= file_size - 8 && length <= file.size() - 8,
          "{}: truncated: its header should have {} bytes and only {} follow", where, length,
          std::min<uint64_t>(file_size, file.size()) - 8);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  require(!text.empty() && text.front() == '{', "{}: the header does not begin with '{{'", where);
  const size_t last = text.find_last_not_of(' ');
  require(text[last] == '}', "{}: the header does not end with '}}' and spaces", where);
  // The JSON library takes a zero byte for the end of the text, and would ignore what follows it.
  require(text.find('\0') == std::string_view::npos, "{}: a zero byte in the header, at offset {}", where,
          8 + text.find('\0'));
  return text;
}

void check_entry(const TensorEntry& entry, const std::string& where) {
  require(entry.end >= entry.begin, "{}: tensor \"{}\" ends (byte {}) before it begins (byte {})", where, entry.name,
          entry.end, entry.begin);
  const StoredType* stored = find_stored(entry.dtype);
  if (stored == nullptr) return;
  const auto bytes = tensor_bytes(entry.shape, stored->bits);
  require(bytes.has_value(), "{}: tensor \"{}\", {} {}: its size is no whole number of bytes below 2^64", where,
          entry.name, entry.dtype, shape_text(entry.shape));
  require(*bytes == entry.bytes(), "{}: tensor \"{}\", {} {}, has {} bytes by its shape and {} by its offsets", where,
          entry.name, entry.dtype, shape_text(entry.shape), *bytes, entry.bytes());
}
}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, uint64_t file_size,
                                           const std::string& where) {
  const std::string_view text = header_text(file, file_size, where);
  SafetensorsHeader header;
  header.data_start = 8 + text.size();
  HeaderHandler handler(header, where);
  nlohmann::json::sax_parse(text.begin(), text.end(), &handler);

  auto& tensors = header.tensors;
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  const uint64_t data_bytes = file_size - header.data_start;
  uint64_t position = 0;
  for (TensorEntry& entry : tensors) {
    check_entry(entry, where);
    require(entry.begin == position,
            "{}: {} before tensor \"{}\": it begins at byte {} of the data and the one before ends at {}", where,
            entry.begin > position ? "a hole" : "an overlap", entry.name, entry.begin, position);
    position = entry.end;
    if (const StoredType* stored = find_stored(entry.dtype)) entry.type = stored->type;
  }
  require(position <= data_bytes, "{}: truncated: the tensors need {} bytes of data and {} are there", where, position,
          data_bytes);
  require(position == data_bytes, "{}: {} bytes follow the last tensor", where, data_bytes - position);
  return header;
}

std::string layout_safetensors(std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata,
                               const std::string& where) {
  for (TensorEntry& entry : tensors) {
    require(entry.type.has_value(), "{}: tensor \"{}\" has no element type", where, entry.name);
    require(entry.name != "__metadata__", "{}: no tensor can be called __metadata__", where);
    entry.dtype = stored_of(*entry.type).name;
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    const auto order_a = &stored_of(*a.type) - stored_types.data(), order_b = &stored_of(*b.type) - stored_types.data();
    return order_a != order_b ? order_a > order_b : a.name < b.name;
  });
  std::unordered_set<std::string> names;
  uint64_t position = 0;
  std::string text = "{";  // entries in the order of their offsets, as the reference writer writes them
  try {
    if (!metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
    for (TensorEntry& entry : tensors) {
      require(names.insert(entry.name).second, "{}: two tensors are called \"{}\"", where, entry.name);
      const auto bytes = tensor_bytes(entry.shape, 8 * size_of(*entry.type));
      require(bytes.has_value() && !__builtin_add_overflow(position, *bytes, &entry.end),
              "{}: tensor \"{}\" {} is too large", where, entry.name, shape_text(entry.shape));
      entry.begin = position;
      position = entry.end;
      text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", text.size() > 1 ? "," : "",
                          nlohmann::json(entry.name).dump(), entry.dtype, nlohmann::json(entry.shape).dump(),
                          entry.begin, entry.end);
    }
  } catch (const nlohmann::json::exception& e) {
    fail("{}: a name or a metadata value is not UTF-8 ({})", where, e.what());
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  require(text.size() <= max_safetensors_header,
          "{}: {} tensors need a header of {} bytes, and the limit is {}; use smaller shards", where, tensors.size(),
          text.size(), uint64_t{max_safetensors_header});
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

std::optional<uint64_t> tensor_bytes(std::span<const int64_t> shape, uint64_t bits) {
  uint64_t total = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(total, static_cast<uint64_t>(dimension), &total)) return {};
  }
  if (__builtin_mul_overflow(total, bits, &total) || total % 8 != 0) return {};
  return total / 8;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::string_view safetensors_name(DType type) {
  return stored_of(type).name;
}

}  // namespace strand
