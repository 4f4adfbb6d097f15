#pragma once
#include <cstddef>

namespace strand {

/// A stretch of bytes, [begin, end).
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const ByteRange&) const = default;
};

}  // namespace strand
