#pragma once
// Pointers of Git LFS. Where a repository was cloned without it, its large files (weights, tokenizers, text) are small
// texts that say where the real file lies: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
#include <cstddef>
#include <string>
#include <string_view>

namespace strand {

/// The bytes with which every pointer begins.
inline constexpr std::string_view lfs_pointer_begin = "version https://git-lfs.github.com/spec/v1\n";

/// Throws Error when `begin`, the first bytes of the file or all of it, is that of a pointer.
void refuse_lfs_pointer(std::string_view begin, const std::string& path);

}  // namespace strand
