#pragma once
// manifest.json closes a checkpoint: {"format": "strand-checkpoint", "version": 1, "files": {NAME: {"bytes": n, "xxh3":
// "16 hex digits"}}}. A directory whose files are exactly those, with those sizes and digests, is complete and
// undamaged.
#include <map>
#include <string>

#include "core/file_io.h"

namespace strand {

using Manifest = std::map<std::string, FileDigest>;  ///< by file name within the directory

inline constexpr const char* manifest_name = "manifest.json";

void write_manifest(const std::string& directory, const Manifest& files);
/// Throws Error when it is missing or not of the form above.
Manifest read_manifest(const std::string& directory);
/// Reads every byte of every file. Throws Error naming the file and what is wrong with it: missing, another size,
/// another digest, or there without being listed (names that begin with a dot are nobody's business).
void verify_manifest(const std::string& directory);

}  // namespace strand
