#pragma once
// manifest.json is written last, when a checkpoint is complete:
//   {"format": "strand-checkpoint", "version": 1, "files": {NAME: {"bytes": n, "xxh3": "16 hexadecimal digits"}}}
// A directory that has exactly these files, with these sizes and digests, is complete and undamaged.
#include <map>
#include <string>

#include "core/file_io.h"

namespace strand {

using Manifest = std::map<std::string, FileDigest>;  ///< by file name within the directory

inline constexpr const char* manifest_name = "manifest.json";

void write_manifest(const std::string& directory, const Manifest& files);
/// Throws Error when the manifest is missing or does not have the form above.
Manifest read_manifest(const std::string& directory);
/// Reads every byte of every file. Throws Error that names the file and what is wrong with it: it is missing, has
/// another size or another digest, or is not listed. Files whose names begin with a dot are ignored.
void verify_manifest(const std::string& directory);

}  // namespace strand
