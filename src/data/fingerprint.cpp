#include "data/fingerprint.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "core/file_io.h"

namespace strand {

std::string fingerprint(const TokenFile& file) {
  return fingerprint(file.tokens(), file.type(),
                     [&file](uint64_t begin, std::span<std::byte> out) { file.read_stored(begin, out); });
}

std::string fingerprint(int64_t tokens, TokenType type, const ReadStored& read) {
  const int64_t bytes = tokens * static_cast<int64_t>(size_of(type));
  DigestStream digest;
  std::vector<std::byte> block;
  const auto add = [&](int64_t begin, int64_t size) {
    block.resize(static_cast<size_t>(size));
    read(static_cast<uint64_t>(begin), block);
    digest.add(block.data(), block.size());
  };
  constexpr int64_t size = fingerprint_block_bytes, others = fingerprint_blocks - 1;
  if (bytes <= fingerprint_blocks * size) {
    for (int64_t begin = 0; begin < bytes; begin += size) add(begin, std::min(size, bytes - begin));
  } else {
    const int64_t last = bytes - size;  // begin of the last block
    for (int64_t i = 0; i < fingerprint_blocks; ++i) add(last / others * i + last % others * i / others, size);
  }
  return fmt::format("{} ids of {}, XXH3 {}", tokens, to_string(type), digest.digest().xxh3);
}

}  // namespace strand
