#include "checkpoint/shared_checkpoint.h"

#include <chrono>
#include <filesystem>
#include <set>
#include <thread>

#include "core/clock.h"
#include "core/strict_json.h"

namespace strand {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {
constexpr uint64_t max_part_bytes = 256'000'000;

struct Stem {
  const char* name;
  std::span<const NamedTensor> CheckpointContents::*tensors;
  WriterPlace::Shards WriterPlace::*shards;
};
constexpr Stem stems[] = {{model_stem, &CheckpointContents::model, &WriterPlace::model},
                          {optimizer_stem, &CheckpointContents::optimizer, &WriterPlace::optimizer}};

std::string part_name(int writer) {
  return fmt::format("part-{:05}.json", writer);
}

/// What a writer has written of one stem.
struct Written {
  std::map<std::string, std::string> file_of_tensor;
  uint64_t bytes = 0;
};

Written write_shards(CheckpointWriter& writer, const Stem& stem, std::span<const NamedTensor> tensors,
                     const WriterPlace::Shards& shards, uint64_t max_shard_bytes) {
  Written written;
  if (tensors.empty()) return written;
  size_t index = shards.first;
  for (const std::span<const NamedTensor> shard : cut_into_shards(tensors, max_shard_bytes)) {
    const std::string name = shard_name(stem.name, index++, shards.total);
    writer.add({name, write_safetensors((fs::path(writer.directory()) / name).string(), shard)});
    for (const NamedTensor& tensor : shard) {
      written.file_of_tensor.emplace(tensor.name, name);
      written.bytes += byte_size(tensor);
    }
  }
  return written;
}

json part_of(CheckpointWriter& writer, const CheckpointContents& contents, const WriterPlace& place,
             uint64_t max_shard_bytes) {
  json part = json::object();
  for (const Stem& stem : stems) {
    const Written written = write_shards(writer, stem, contents.*stem.tensors, place.*stem.shards, max_shard_bytes);
    part[stem.name] = written.file_of_tensor;
    part[std::string(stem.name) + "_bytes"] = written.bytes;
  }
  json& files = part["files"] = json::object();
  for (const auto& [name, digest] : writer.files()) files[name] = {{"bytes", digest.bytes}, {"xxh3", digest.xxh3}};
  return part;
}

/// Names and sizes of the files in a directory. Any change of these is progress.
std::map<std::string, uint64_t> sizes_in(const std::string& directory) {
  std::map<std::string, uint64_t> sizes;
  std::error_code gone;  // a temporary file may disappear while it is looked at
  for (const auto& entry : fs::directory_iterator(directory))
    sizes[entry.path().filename().string()] = fs::file_size(entry.path(), gone);
  return sizes;
}

/// The lowest number of a writer, from `from` on, that has not left its part yet; place.writers when all have.
int missing_writer(const std::string& directory, const WriterPlace& place, int from) {
  while (from < place.writers && fs::exists(fs::path(directory) / part_name(from))) ++from;
  return from;
}

void wait_for_parts(const std::string& directory, const WriterPlace& place, double patience_seconds,
                    const std::atomic<bool>& abandon) {
  std::map<std::string, uint64_t> sizes;
  double last_progress = now();
  for (int missing = 1; (missing = missing_writer(directory, place, missing)) < place.writers;) {
    if (abandon) throw Abandoned("another writer failed");
    std::map<std::string, uint64_t> found = sizes_in(directory);
    if (found != sizes) last_progress = now();
    sizes = std::move(found);
    require(now() - last_progress < patience_seconds,
            "rank {} has not written its part of {}, in which nothing changed for {:.0f} s", missing, directory,
            patience_seconds);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

/// Reads the part of writer `number`, adds its files to those of `writer`, and removes the part.
json take_part(CheckpointWriter& writer, int number) {
  const std::string path = (fs::path(writer.directory()) / part_name(number)).string();
  const json part = parse_strict_json(read_file(path, max_part_bytes), path);
  if (part.contains("error")) fail("rank {}: {}", number, json_string(part, "error", path));
  for (const auto& [name, digest] : json_object(part, "files", path).items())
    writer.add({name, {json_unsigned(digest, "bytes", path), json_string(digest, "xxh3", path)}});
  remove_tree(path);
  return part;
}

void write_index(CheckpointWriter& writer, const Stem& stem, const std::vector<json>& parts, size_t shards) {
  if (shards <= 1) return;
  std::map<std::string, std::string> file_of_tensor;
  uint64_t bytes = 0;
  for (const json& part : parts) {
    for (const auto& [tensor, file] : part.at(stem.name).items())
      require(file_of_tensor.emplace(tensor, file.get<std::string>()).second, "{}: two ranks wrote \"{}\"",
              writer.directory(), tensor);
    bytes += part.at(std::string(stem.name) + "_bytes").get<uint64_t>();
  }
  writer.add(write_shard_index(writer.directory(), stem.name, file_of_tensor, bytes));
}
}  // namespace

size_t shard_count(std::span<const NamedTensor> tensors, uint64_t max_shard_bytes) {
  return tensors.empty() ? 0 : cut_into_shards(tensors, max_shard_bytes).size();
}

void write_checkpoint_part(const std::string& parent, const CheckpointContents& contents, const WriterPlace& place,
                           uint64_t max_shard_bytes) {
  CheckpointWriter writer = CheckpointWriter::join(parent, contents.state.step);
  const std::string path = (fs::path(writer.directory()) / part_name(place.writer)).string();
  try {
    write_file_atomically(path, part_of(writer, contents, place, max_shard_bytes).dump());
  } catch (const std::exception& error) {
    try {
      write_file_atomically(path, json{{"error", error.what()}}.dump(-1, ' ', false, json::error_handler_t::replace));
    } catch (const Error&) {
      // The part could not be written, perhaps because the disk is full. The first writer learns of it when this
      // process ends, or gives up when its patience is over.
    }
    throw;
  }
}

std::string finish_shared_checkpoint(CheckpointWriter& writer, const CheckpointContents& contents,
                                     const WriterPlace& place, double patience_seconds,
                                     const std::atomic<bool>& abandon, uint64_t max_shard_bytes) {
  try {
    std::vector<json> parts{part_of(writer, contents, place, max_shard_bytes)};
    wait_for_parts(writer.directory(), place, patience_seconds, abandon);
    for (int other = 1; other < place.writers; ++other) parts.push_back(take_part(writer, other));
    for (const Stem& stem : stems) write_index(writer, stem, parts, (place.*stem.shards).total);
    write_once(writer, contents);
    return writer.commit();
  } catch (...) {
    discard(writer);
    throw;
  }
}

}  // namespace strand
