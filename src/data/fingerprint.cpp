#include "data/fingerprint.h"

#include <fmt/core.h>

#include "core/file_io.h"

namespace strand {

std::string fingerprint(const TokenFile& file) {
  const std::span<const std::byte> ids = file.stored_ids();
  const auto bytes = static_cast<int64_t>(ids.size());
  DigestStream digest;
  if (bytes <= fingerprint_blocks * fingerprint_block_bytes) {
    digest.add(ids.data(), ids.size());
  } else {
    const int64_t last = bytes - fingerprint_block_bytes;  // begin of the last block
    for (int64_t i = 0; i < fingerprint_blocks; ++i) {
      const int64_t begin =
          last / (fingerprint_blocks - 1) * i + last % (fingerprint_blocks - 1) * i / (fingerprint_blocks - 1);
      digest.add(ids.data() + begin, static_cast<size_t>(fingerprint_block_bytes));
    }
  }
  return fmt::format("{} ids of {}, XXH3 {}", file.tokens(), to_string(file.type()), digest.digest().xxh3);
}

}  // namespace strand
