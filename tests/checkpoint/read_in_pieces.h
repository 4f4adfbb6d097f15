#pragma once
// A tensor that is written passes through memory in pieces of some MiB (safetensors_piece_bytes), and most tensors of
// tests are smaller than one. So they are read here in small pieces, in any order, as the writer reads large ones.
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/tensor_source.h"
#include "tests/catch.h"

namespace strand::test {

/// Whether pieces of a few elements hold what the tensor read at once holds at their places.
inline bool pieces_make_whole(const NamedTensor& tensor) {
  const size_t size = size_of(tensor.dtype), bytes = byte_size(tensor);
  std::vector<std::byte> whole(bytes), pieces(bytes, std::byte{0xa5});
  tensor.read(whole.data(), 0, bytes);
  for (const size_t elements : {1, 3, 64}) {
    const size_t piece = elements * size;
    for (size_t end = bytes; end > 0;) {  // the last one first: no piece may rely on the one before it
      const size_t begin = (end - 1) / piece * piece;
      tensor.read(pieces.data() + begin, begin, end - begin);
      end = begin;
    }
    if (pieces != whole) return false;
  }
  return true;
}

inline void check_pieces(const std::vector<NamedTensor>& tensors) {
  REQUIRE_FALSE(tensors.empty());
  for (const NamedTensor& tensor : tensors) {
    INFO(tensor.name);
    CHECK(pieces_make_whole(tensor));
  }
}

}  // namespace strand::test
