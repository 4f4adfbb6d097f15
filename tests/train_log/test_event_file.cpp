// TensorBoard event files, decoded by a reader of its own: records, checksums and messages field by field.
#include <fmt/core.h>
#include <unistd.h>

#include "tests/catch.h"
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <vector>

#include "train/event_file.h"

using namespace strand;
namespace fs = std::filesystem;

namespace {
/// CRC-32C bit by bit, as the polynomial division it is (the code under test uses a table).
uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) {
      const bool carry = (crc & 1u) != 0;
      crc >>= 1;
      if (carry) crc ^= 0x82f63b78u;
    }
  }
  return crc ^ 0xffffffffu;
}

uint32_t mask(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <typename T>
T take(const std::string& bytes, size_t& at) {
  REQUIRE(at + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  at += sizeof(T);
  return value;
}

std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> found;
  for (size_t at = 0; at < file.size();) {
    const std::string length_bytes = file.substr(at, 8);
    const auto length = take<uint64_t>(file, at);
    REQUIRE(take<uint32_t>(file, at) == mask(slow_crc32c(length_bytes)));
    found.push_back(file.substr(at, length));
    at += length;
    REQUIRE(take<uint32_t>(file, at) == mask(slow_crc32c(found.back())));
  }
  return found;
}

/// One level of a protobuf message: the raw bytes of each field by number (each at most once in our messages).
std::map<int, std::string> fields(const std::string& message) {
  const auto varint = [&](size_t& at) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = take<uint8_t>(message, at);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  std::map<int, std::string> found;
  for (size_t at = 0; at < message.size();) {
    const uint64_t key = varint(at);
    const size_t begin = at;
    std::string value;
    switch (key & 7) {
      case 0:
        value = std::to_string(varint(at));
        break;
      case 1:
        at += 8;
        value = message.substr(begin, 8);
        break;
      case 2: {
        const uint64_t length = varint(at);
        value = message.substr(at, length);
        at += length;
        break;
      }
      case 5:
        at += 4;
        value = message.substr(begin, 4);
        break;
      default:
        FAIL("wire type " << (key & 7));
    }
    REQUIRE(found.emplace(static_cast<int>(key >> 3), value).second);
  }
  return found;
}

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
}  // namespace

TEST_CASE("CRC-32C gives the values of RFC 3720, appendix B.4") {
  std::string ascending(32, '\0'), descending(32, '\0');
  for (size_t i = 0; i < 32; ++i) {
    ascending[i] = static_cast<char>(i);
    descending[i] = static_cast<char>(31 - i);
  }
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  CHECK(crc32c(ascending) == 0x46dd794eu);
  CHECK(crc32c(descending) == 0x113fdb5cu);
  CHECK(crc32c("123456789") == 0xe3069283u);
}

TEST_CASE("An event file holds its version, the session's start and the scalars") {
  const fs::path directory = fs::temp_directory_path() / fmt::format("strand_events_{}", getpid());
  std::string path, second;
  {
    EventFile file(directory.string(), 17);
    path = file.path();
    second = EventFile(directory.string(), 0).path();
    const std::string tag(200, 't');  // a length that needs two bytes
    file.scalar("loss", 17, 2.5);
    file.scalar(tag, int64_t{1} << 40, std::numeric_limits<double>::infinity());
    CHECK(records(contents(path)).size() == 2);  // scalars wait for flush
    file.flush();
    CHECK(records(contents(path)).size() == 4);
    file.scalar("last", 18, -1.0);
  }
  CHECK(path != second);
  CHECK(fs::path(path).filename().string().starts_with("events.out.tfevents."));
  const auto events = records(contents(path));
  REQUIRE(events.size() == 5);
  CHECK(fields(events[0])[3] == "brain.Event:2");
  CHECK(fields(events[1])[2] == "17");
  CHECK(fields(fields(events[1])[7]) == std::map<int, std::string>{{1, "1"}});
  const auto scalar = [&](size_t i) {
    auto value = fields(fields(fields(events[i])[5])[1]);
    float number = 0;
    REQUIRE(value[2].size() == 4);
    std::memcpy(&number, value[2].data(), 4);
    return std::pair(value[1], number);
  };
  CHECK(scalar(2) == std::pair(std::string("loss"), 2.5f));
  CHECK(fields(events[2])[2] == "17");
  CHECK(scalar(3) == std::pair(std::string(200, 't'), std::numeric_limits<float>::infinity()));
  CHECK(fields(events[3])[2] == "1099511627776");
  CHECK(scalar(4) == std::pair(std::string("last"), -1.0f));
  double wall_time = 0;
  REQUIRE(fields(events[2])[1].size() == 8);
  std::memcpy(&wall_time, fields(events[2])[1].data(), 8);
  CHECK(wall_time > 1.7e9);  // after 2023
  fs::remove_all(directory);
}
