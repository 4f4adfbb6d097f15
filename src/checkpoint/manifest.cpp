#include "checkpoint/manifest.h"

#include <filesystem>

#include "core/error.h"
#include "core/strict_json.h"

namespace strand {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {
constexpr const char* format_name = "strand-checkpoint";
constexpr uint64_t format_version = 1;
constexpr uint64_t max_manifest_bytes = 16'000'000;

std::string join(const std::string& directory, const std::string& name) {
  return (fs::path(directory) / name).string();
}

void check_file(const std::string& path, const FileDigest& expected) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  require(fs::exists(status), "{} is missing", path);
  require(fs::is_regular_file(status), "{} is not a regular file", path);
  const uint64_t bytes = fs::file_size(path);
  require(bytes == expected.bytes, "{} has {} bytes and should have {}", path, bytes, expected.bytes);
  const FileDigest found = digest_of_file(path);
  require(found == expected, "{} is damaged: its XXH3 is {} and should be {}", path, found.xxh3, expected.xxh3);
}
}  // namespace

void write_manifest(const std::string& directory, const Manifest& files) {
  json list = json::object();
  for (const auto& [name, digest] : files) list[name] = {{"bytes", digest.bytes}, {"xxh3", digest.xxh3}};
  const json manifest = {{"format", format_name}, {"version", format_version}, {"files", list}};
  // There is no newline at the end, so that a file which lost its last byte is not valid JSON.
  write_file_atomically(join(directory, manifest_name), manifest.dump());
}

Manifest read_manifest(const std::string& directory) {
  const std::string path = join(directory, manifest_name);
  require(fs::exists(path), "{} is missing: the checkpoint was not finished", path);
  const json manifest = parse_strict_json(read_file(path, max_manifest_bytes), path);
  require(json_string(manifest, "format", path) == format_name, "{}: not the manifest of a checkpoint", path);
  const uint64_t version = json_unsigned(manifest, "version", path);
  require(version == format_version, "{}: format version {}, and this program reads version {}", path, version,
          format_version);
  Manifest files;
  for (const auto& [name, digest] : json_object(manifest, "files", path).items()) {
    require(!name.empty() && name.front() != '.' && fs::path(name).filename() == name,
            "{}: \"{}\" is no plain file name", path, name);
    require(digest.is_object(), "{}: no size and digest for \"{}\"", path, name);
    files[name] = {json_unsigned(digest, "bytes", path), json_string(digest, "xxh3", path)};
  }
  return files;
}

void verify_manifest(const std::string& directory) {
  const Manifest files = read_manifest(directory);
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    require(name == manifest_name || name.front() == '.' || files.contains(name),
            "{} is not listed in {}: move it elsewhere if it is no part of the checkpoint", entry.path().string(),
            manifest_name);
  }
  for (const auto& [name, digest] : files) check_file(join(directory, name), digest);
}

}  // namespace strand
