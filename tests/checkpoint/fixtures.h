#pragma once
// Helpers of the checkpoint tests: a directory that goes away, files made by hand, errors as text.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "tests/temporary_directory.h"

namespace strand::test {

/// The system's calls without waiting for the disk, which would take most of these tests' time. (A process that dies
/// loses nothing that it did not sync. Only a machine that dies loses it.)
class UnsyncedLayer : public FileLayer {
 public:
  int fsync(int) override { return 0; }
};

/// The disk is full at call number `at` (from 0) that changes it, and at no other.
class FailingLayer final : public UnsyncedLayer {
 public:
  explicit FailingLayer(int at) : at_(at) {}
  bool reached() const { return calls_ > at_; }
  int open(const std::string& p, int flags, mode_t mode) override {
    return hit() ? -1 : FileLayer::open(p, flags, mode);
  }
  ssize_t write(int d, const void* b, size_t n) override { return hit() ? -1 : FileLayer::write(d, b, n); }
  int fsync(int) override { return hit() ? -1 : 0; }
  int rename(const std::string& a, const std::string& b) override { return hit() ? -1 : FileLayer::rename(a, b); }
  int mkdir(const std::string& p, mode_t mode) override { return hit() ? -1 : FileLayer::mkdir(p, mode); }

 private:
  bool hit() {
    errno = ENOSPC;
    return calls_++ == at_;
  }
  int at_;
  int calls_ = 0;
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

/// Makes a safetensors file from its parts: the length, the header as it is given, and the data.
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
