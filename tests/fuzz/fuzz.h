#pragma once
// What fuzz targets share: bytes as text, files in a directory of the process, and claims that must hold.
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "core/error.h"

namespace strand::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A claim about the reader; unlike an Error, its failure is a finding.
inline void claim(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

/// A directory in memory where there is one, made at the first call and kept for the life of the process.
inline const std::string& directory() {
  static const struct Directory {
    Directory() {
      const char* parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
      path = std::string(parent) + "/strand_fuzz_XXXXXX";
      claim(mkdtemp(path.data()) != nullptr, "a temporary directory can be made");
    }
    ~Directory() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::string path;
  } made;
  return made.path;
}

inline void put(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// Runs `action`; refusing with Error is fine.
template <typename Action>
int attempt(const Action& action) {
  try {
    action();
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace strand::fuzz
