#include "train/event_file.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <filesystem>

#include "core/error.h"
#include "core/file_io.h"

namespace strand {

namespace {
constexpr std::array<uint32_t, 256> crc_table = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

/// TFRecord masks checksums, so that a checksum of data that holds checksums stays useful.
uint32_t masked(uint32_t crc) {
  return std::rotr(crc, 15) + 0xa282ead8u;
}

template <typename T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// ---- Protocol buffers: a field is a varint of (number << 3 | wire type), then its value ---------------------------

enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(uint32_t field, Wire wire) {
  return varint(field << 3 | static_cast<uint32_t>(wire));
}
std::string varint_field(uint32_t field, uint64_t value) {
  return key(field, Wire::varint) + varint(value);
}
std::string double_field(uint32_t field, double value) {
  return key(field, Wire::fixed64) + little_endian(std::bit_cast<uint64_t>(value));
}
std::string float_field(uint32_t field, float value) {
  return key(field, Wire::fixed32) + little_endian(std::bit_cast<uint32_t>(value));
}
std::string bytes_field(uint32_t field, std::string_view value) {
  return key(field, Wire::bytes) + varint(value.size()) + std::string(value);
}

// The numbers of the fields in event.proto and summary.proto.
namespace event_proto {
constexpr uint32_t wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7;
}
namespace session_log_proto {
constexpr uint32_t status = 1;
constexpr uint64_t start = 1;
}  // namespace session_log_proto
namespace summary_proto {
constexpr uint32_t value = 1, value_tag = 1, value_simple_value = 2;
}

std::string new_path(const std::string& directory) {
  static std::atomic<int> files{0};
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0') host = {"localhost"};
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  const std::string name =
      fmt::format("events.out.tfevents.{:010}.{}.{}.{}", seconds.count(), host.data(), getpid(), files++);
  return (std::filesystem::path(directory) / name).string();
}
}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc_table[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string tf_record(std::string_view payload) {
  const std::string length = little_endian(static_cast<uint64_t>(payload.size()));
  return length + little_endian(masked(crc32c(length))) + std::string(payload) + little_endian(masked(crc32c(payload)));
}

EventFile::EventFile(const std::string& directory, int64_t first_step) {
  make_directories(directory);
  file_ = std::make_unique<DiagnosticFile>(new_path(directory));
  event(0, bytes_field(event_proto::file_version, "brain.Event:2"));
  event(first_step,
        bytes_field(event_proto::session_log, varint_field(session_log_proto::status, session_log_proto::start)));
  flush();
}

EventFile::~EventFile() {
  flush();
}

void EventFile::event(int64_t step, std::string_view what) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  pending_ += tf_record(double_field(event_proto::wall_time, now) +
                        varint_field(event_proto::step, static_cast<uint64_t>(step)) + std::string(what));
}

void EventFile::scalar(std::string_view tag, int64_t step, double value) {
  const std::string entry = bytes_field(summary_proto::value_tag, tag) +
                            float_field(summary_proto::value_simple_value, static_cast<float>(value));
  event(step, bytes_field(event_proto::summary, bytes_field(summary_proto::value, entry)));
}

void EventFile::flush() {
  if (pending_.empty()) return;
  file_->write(pending_);
  pending_.clear();
}

void EventFile::sync() {
  flush();
  file_->sync();
}

void EventFile::finish() {
  flush();
  file_->finish();
}

}  // namespace strand
