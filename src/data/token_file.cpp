#include "data/token_file.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/error.h"
#include "data/megatron_index.h"

namespace strand {

namespace {
using megatron::load;

constexpr uint64_t llmc_header_bytes = 1024;
constexpr int32_t llmc_magic_u16 = 20240520, llmc_version_u16 = 1;
constexpr int32_t llmc_magic_u32 = 20240801, llmc_version_u32 = 7;

struct FormatName {
  TokenFormat format;
  const char* name;
};
constexpr FormatName format_names[] = {{TokenFormat::automatic, "auto"},
                                       {TokenFormat::megatron, "megatron"},
                                       {TokenFormat::llmc, "llmc"},
                                       {TokenFormat::raw_u16, "raw_u16"},
                                       {TokenFormat::raw_i32, "raw_i32"}};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

TokenFormat detect(const std::string& path) {
  if (exists(megatron::prefix_of(path) + ".idx")) return TokenFormat::megatron;
  if (!exists(path)) {
    fail("no token file at {0}: neither {0} nor {1}.idx exists", path, megatron::prefix_of(path));
  }
  const MappedFile file(path);
  const int32_t first = file.size() >= 4 ? load<int32_t>(file.data(), 0) : 0;
  if (first == llmc_magic_u16 || first == llmc_magic_u32) return TokenFormat::llmc;
  fail(
      "cannot tell the format of {}: there is no {}.idx beside it and it does not begin with llm.c's magic number; if "
      "it "
      "is a nanoGPT file without a header, say its format: raw_u16 or raw_i32",
      path, megatron::prefix_of(path));
}

TokenType checked_type(uint8_t code, const std::string& path) {
  constexpr std::array known = {TokenType::u8,  TokenType::i8,  TokenType::i16,
                                TokenType::i32, TokenType::i64, TokenType::u16};
  const auto found = std::find(known.begin(), known.end(), static_cast<TokenType>(code));
  require(found != known.end(),
          "{}: dtype code {} at byte {} is not an integer type (1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16)", path, code,
          megatron::type_offset);
  return *found;
}

// Checks the lengths and pointers of the index against its own size and against that of the .bin. Throws Error.
void check_lengths(const MappedFile& index, uint64_t sequences, uint64_t item_bytes, const MappedFile& data) {
  const uint64_t pointers = megatron::pointers_offset(sequences);
  uint64_t expected = 0;  // it cannot overflow, as it never exceeds the size of the .bin by more than one sequence
  for (uint64_t i = 0; i < sequences; ++i) {
    const int32_t length = load<int32_t>(index.data(), megatron::lengths_offset + 4 * i);
    require(length >= 0, "{}: sequence {} has the negative length {} (byte {})", index.path(), i, length,
            megatron::lengths_offset + 4 * i);
    const int64_t pointer = load<int64_t>(index.data(), pointers + 8 * i);
    require(pointer >= 0 && static_cast<uint64_t>(pointer) == expected,
            "{}: sequence {} is said to begin at byte {} of the .bin, but the lengths before it add up to {} (byte {})",
            index.path(), i, pointer, expected, pointers + 8 * i);
    expected += static_cast<uint64_t>(length) * item_bytes;
    require(expected <= data.size(), "{}: sequence {} ends at byte {} of {}, which has only {} bytes (byte {})",
            index.path(), i, expected, data.path(), data.size(), megatron::lengths_offset + 4 * i);
  }
  require(expected == data.size(), "{} describes {} bytes of ids, but {} has {}: one of the two is not the other's",
          index.path(), expected, data.path(), data.size());
}

void check_documents(const MappedFile& index, uint64_t sequences, uint64_t entries) {
  const uint64_t table = megatron::document_table_offset(sequences);
  int64_t previous = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    const int64_t first = load<int64_t>(index.data(), table + 8 * i);
    const bool in_order = i == 0 ? first == 0 : first >= previous && static_cast<uint64_t>(first) <= sequences;
    require(in_order,
            "{}: document {} is said to begin with sequence {}, after {} and with {} sequences in all (byte {})",
            index.path(), i, first, previous, sequences, table + 8 * i);
    previous = first;
  }
  require(static_cast<uint64_t>(previous) == sequences,
          "{}: the document table ends with sequence {} instead of {} (byte {})", index.path(), previous, sequences,
          table + 8 * (entries - 1));
}

// Copies ids to int32. Returns the position of the first id outside [0, limit), or `count` when all are inside.
template <typename T>
int64_t copy_ids(const std::byte* ids, int64_t count, uint64_t limit, int32_t* out) {
  bool bad = false;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t value = static_cast<int64_t>(load<T>(ids, static_cast<uint64_t>(i) * sizeof(T)));
    bad |= static_cast<uint64_t>(value) >= limit;  // a negative value becomes a very large one
    out[i] = static_cast<int32_t>(value);
  }
  if (!bad) return count;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t value = static_cast<int64_t>(load<T>(ids, static_cast<uint64_t>(i) * sizeof(T)));
    if (static_cast<uint64_t>(value) >= limit) return i;
  }
  return count;
}

int64_t copy_ids(TokenType type, const std::byte* ids, int64_t count, uint64_t limit, int32_t* out) {
  switch (type) {
    case TokenType::u8:
      return copy_ids<uint8_t>(ids, count, limit, out);
    case TokenType::i8:
      return copy_ids<int8_t>(ids, count, limit, out);
    case TokenType::i16:
      return copy_ids<int16_t>(ids, count, limit, out);
    case TokenType::u16:
      return copy_ids<uint16_t>(ids, count, limit, out);
    case TokenType::i32:
      return copy_ids<int32_t>(ids, count, limit, out);
    case TokenType::u32:
      return copy_ids<uint32_t>(ids, count, limit, out);
    case TokenType::i64:
      return copy_ids<int64_t>(ids, count, limit, out);
  }
  return 0;
}

int64_t id_at(TokenType type, const std::byte* ids, int64_t i) {
  const uint64_t offset = static_cast<uint64_t>(i) * size_of(type);
  switch (type) {
    case TokenType::u8:
      return load<uint8_t>(ids, offset);
    case TokenType::i8:
      return load<int8_t>(ids, offset);
    case TokenType::i16:
      return load<int16_t>(ids, offset);
    case TokenType::u16:
      return load<uint16_t>(ids, offset);
    case TokenType::i32:
      return load<int32_t>(ids, offset);
    case TokenType::u32:
      return load<uint32_t>(ids, offset);
    case TokenType::i64:
      return load<int64_t>(ids, offset);
  }
  return 0;
}
}  // namespace

TokenFormat parse_token_format(const std::string& name) {
  for (const FormatName& known : format_names) {
    if (name == known.name) return known.format;
  }
  fail("unknown token format '{}': use auto, megatron, llmc, raw_u16 or raw_i32", name);
}

std::string to_string(TokenFormat format) {
  for (const FormatName& known : format_names) {
    if (format == known.format) return known.name;
  }
  return "?";
}

size_t size_of(TokenType type) {
  switch (type) {
    case TokenType::u8:
    case TokenType::i8:
      return 1;
    case TokenType::i16:
    case TokenType::u16:
      return 2;
    case TokenType::i32:
    case TokenType::u32:
      return 4;
    case TokenType::i64:
      return 8;
  }
  return 0;
}

std::string to_string(TokenType type) {
  switch (type) {
    case TokenType::u8:
      return "u8";
    case TokenType::i8:
      return "i8";
    case TokenType::i16:
      return "i16";
    case TokenType::u16:
      return "u16";
    case TokenType::i32:
      return "i32";
    case TokenType::u32:
      return "u32";
    case TokenType::i64:
      return "i64";
  }
  return "?";
}

TokenType megatron_type_for(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::u16 : TokenType::i32;
}

TokenFile::TokenFile(const std::string& path, TokenFormat format)
    : format_(format == TokenFormat::automatic ? detect(path) : format) {
  switch (format_) {
    case TokenFormat::megatron:
      open_megatron(megatron::prefix_of(path));
      break;
    case TokenFormat::llmc:
      open_llmc(path);
      break;
    case TokenFormat::automatic:
    case TokenFormat::raw_u16:
    case TokenFormat::raw_i32:
      open_raw(path);
      break;
  }
}

void TokenFile::open_megatron(const std::string& prefix) {
  index_ = MappedFile(prefix + ".idx");
  data_ = MappedFile(prefix + ".bin");
  const std::string& name = index_.path();
  require(index_.size() >= megatron::header_bytes, "{} has {} bytes; the header of a Megatron index alone has {}", name,
          index_.size(), megatron::header_bytes);
  require(std::memcmp(index_.data(), megatron::magic, sizeof(megatron::magic)) == 0,
          "{} is not a Megatron index: it does not begin with MMIDIDX (byte 0)", name);
  const auto version = load<uint64_t>(index_.data(), megatron::version_offset);
  require(version == megatron::version, "{}: version {} at byte {}; only version 1 is known", name, version,
          megatron::version_offset);
  type_ = checked_type(load<uint8_t>(index_.data(), megatron::type_offset), name);

  const auto sequences = load<uint64_t>(index_.data(), megatron::sequences_offset);
  const auto entries = load<uint64_t>(index_.data(), megatron::documents_offset);
  // A sequence takes 12 bytes and a document 8. So a count above size / 8 cannot be true, and below that no product
  // overflows.
  require(sequences <= index_.size() / 8, "{}: claims {} sequences (byte {}), more than a file of {} bytes can list",
          name, sequences, megatron::sequences_offset, index_.size());
  require(entries >= 1 && entries <= index_.size() / 8,
          "{}: claims {} entries of the document table (byte {}), which a file of {} bytes cannot hold", name, entries,
          megatron::documents_offset, index_.size());
  const uint64_t plain = megatron::document_table_offset(sequences) + 8 * entries;
  const bool multimodal = index_.size() == plain + sequences;
  require(index_.size() == plain || multimodal, "{} has {} bytes; {} sequences and {} document entries take {}", name,
          index_.size(), sequences, entries, plain);
  check_lengths(index_, sequences, size_of(type_), data_);
  check_documents(index_, sequences, entries);

  tokens_ = static_cast<int64_t>(data_.size() / size_of(type_));
  sequences_ = static_cast<int64_t>(sequences);
  documents_ = static_cast<int64_t>(entries) - 1;
}

void TokenFile::open_llmc(const std::string& path) {
  data_ = MappedFile(path);
  require(data_.size() >= llmc_header_bytes, "{} has {} bytes; the header of an llm.c file alone has {}", path,
          data_.size(), llmc_header_bytes);
  const auto magic = load<int32_t>(data_.data(), 0);
  const auto version = load<int32_t>(data_.data(), 4);
  const auto count = load<int32_t>(data_.data(), 8);
  if (magic == llmc_magic_u16 && version == llmc_version_u16) {
    type_ = TokenType::u16;
  } else if (magic == llmc_magic_u32 && version == llmc_version_u32) {
    type_ = TokenType::u32;
  } else {
    fail("{}: magic {} and version {} (bytes 0 and 4) are neither of llm.c's: 20240520 with 1, 20240801 with 7", path,
         magic, version);
  }
  require(count >= 0, "{}: claims {} tokens (byte 8)", path, count);
  const uint64_t expected = llmc_header_bytes + static_cast<uint64_t>(count) * size_of(type_);
  require(data_.size() == expected, "{}: claims {} tokens (byte 8), which take {} bytes with the header; it has {}",
          path, count, expected, data_.size());
  ids_offset_ = llmc_header_bytes;
  tokens_ = count;
}

void TokenFile::open_raw(const std::string& path) {
  type_ = format_ == TokenFormat::raw_i32 ? TokenType::i32 : TokenType::u16;
  data_ = MappedFile(path);
  require(data_.size() % size_of(type_) == 0,
          "{} has {} bytes, not a multiple of the {} of a {}: it is cut off or of another type", path, data_.size(),
          size_of(type_), to_string(type_));
  tokens_ = static_cast<int64_t>(data_.size() / size_of(type_));
}

void TokenFile::read(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const {
  require(begin >= 0 && count >= 0 && begin <= tokens_ && count <= tokens_ - begin,
          "{}: tokens [{}, {} + {}) were asked for, it has {}", path(), begin, begin, count, tokens_);
  if (count == 0) return;
  std::vector<std::byte> stored(static_cast<size_t>(count) * size_of(type_));
  read_stored(static_cast<uint64_t>(begin) * size_of(type_), stored);
  const std::byte* ids = stored.data();
  const int64_t limit = std::clamp<int64_t>(vocab_size, 0, int64_t{1} << 31);
  const int64_t bad = copy_ids(type_, ids, count, static_cast<uint64_t>(limit), out);
  if (bad < count) {
    fail(
        "{}: token {} has the id {}, outside a vocabulary of {}: the file was written with another tokenizer, or its "
        "type "
        "is not {}",
        path(), begin + bad, id_at(type_, ids, bad), vocab_size, to_string(type_));
  }
}

void TokenFile::read_stored(uint64_t begin, std::span<std::byte> out) const {
  data_.read(ids_offset_ + begin, out.size(), out.data());
}

int64_t TokenFile::document_begin(int64_t document) const {
  require(documents_ >= 0 && document >= 0 && document <= documents_, "{}: there is no document {}", path(), document);
  const auto sequences = static_cast<uint64_t>(sequences_);
  const auto entry = megatron::document_table_offset(sequences) + 8 * static_cast<uint64_t>(document);
  const auto sequence = load<uint64_t>(index_.data(), entry);
  if (sequence == sequences) return tokens_;
  const auto pointer = load<int64_t>(index_.data(), megatron::pointers_offset(sequences) + 8 * sequence);
  return pointer / static_cast<int64_t>(size_of(type_));
}

}  // namespace strand
