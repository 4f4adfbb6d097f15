#pragma once
// Helpers of the checkpoint tests: a directory that goes away, files made by hand, errors as text.
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/error.h"

namespace strand::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() / fmt::format("strand_test_{}_{}", getpid(), count++);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// The system without waiting for the disk, which is what these tests would otherwise spend their minute on. (A process
/// that dies loses nothing that it did not sync; only a machine that dies does.)
class UnsyncedLayer : public FileLayer {
 public:
  int fsync(int) override { return 0; }
};

inline void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string get(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline void flip_bit(const std::string& path, size_t byte, int bit) {
  std::string bytes = get(path);
  bytes.at(byte) = static_cast<char>(bytes.at(byte) ^ (1 << bit));
  put(path, bytes);
}

/// The message of the Error that `action` throws, "" when it throws none.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

/// A safetensors file by hand: the length, the header as it is, the data.
inline std::string raw_file(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

/// A tensor over the bytes of `values`, which it keeps.
template <typename T>
NamedTensor tensor_of(std::string name, std::vector<int64_t> shape, std::vector<T> values) {
  NamedTensor tensor;
  tensor.name = std::move(name);
  tensor.dtype = dtype_of<T>();
  tensor.shape = std::move(shape);
  tensor.read = [values = std::move(values)](void* host, size_t offset, size_t bytes) {
    std::memcpy(host, reinterpret_cast<const char*>(values.data()) + offset, bytes);
  };
  return tensor;
}

}  // namespace strand::test
