#pragma once
// A short text that depends on what a token file holds. Checkpoints keep it, because the position of a run in its data
// means nothing when the file under the same path has become another one.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "data/token_file.h"

namespace strand {

inline constexpr int64_t fingerprint_block_bytes = int64_t{1} << 20;
inline constexpr int64_t fingerprint_blocks = 64;

/// For example "4000 ids of u16, XXH3 9c7f0e3b12ab44d1": the number of ids, how they are stored, and an XXH3-64 of the
/// ids. In a file of up to 64 MiB it covers all ids, in a larger one 64 blocks of 1 MiB that are spread evenly over the
/// file, the first and the last MiB among them. So the start of a training never reads more than 64 MiB of a file for
/// this. In a larger file, a change between the blocks that keeps the length is not noticed. Throws Error when the file
/// cannot be read.
std::string fingerprint(const TokenFile& file);

/// Copies bytes [begin, begin + out.size()) of ids as they are stored.
using ReadStored = std::function<void(uint64_t begin, std::span<std::byte> out)>;
/// The fingerprint of a token file that holds `tokens` ids of this type.
std::string fingerprint(int64_t tokens, TokenType type, const ReadStored& read);

}  // namespace strand
