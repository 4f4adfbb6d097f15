#pragma once
// What a token file holds, as a short text that a checkpoint keeps: the position of a run in its data means nothing
// when the file under the same path has become another one.
#include <string>

#include "data/token_file.h"

namespace strand {

inline constexpr int64_t fingerprint_block_bytes = int64_t{1} << 20;
inline constexpr int64_t fingerprint_blocks = 64;

/// For example "4000 ids of u16, XXH3 9c7f0e3b12ab44d1". The number of ids, how they are stored, and an XXH3-64 over
/// the ids: over all of them in a file of up to 64 MiB, else over 64 blocks of 1 MiB that are spread evenly over the
/// file, its first and its last MiB among them. So a start of training never reads more than 64 MiB of a file for this.
/// In a larger file, a change that keeps the length and lies between the blocks is not noticed. Throws Error when the
/// file cannot be read.
std::string fingerprint(const TokenFile& file);

}  // namespace strand
