#pragma once
// Where parameters lie in a run of elements that is cut into parts for several ranks.
//
// A *space* is such a run: whole parameters in the order given, each beginning at a multiple of 32 elements (a cache
// line of any type), with padding between them. It is cut into *buckets*, pieces of about a given size that hold whole
// parameters; a bucket is what one collective carries. Each is padded so that it divides into `parts` of a multiple of
// 32 elements, of which rank r of the group owns part r. So any number of elements divides over any number of ranks.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace strand {

struct ParameterLayout {
  static constexpr int64_t alignment = 32;

  struct Bucket {
    int64_t first = 0, elements = 0;
    std::vector<size_t> members;  ///< indices into the sizes given, in order
  };
  std::vector<Bucket> buckets;
  std::vector<int64_t> first;  ///< of each parameter, from the start of the space
  int64_t elements = 0;

  /// A parameter larger than `bucket_elements` has a bucket of its own.
  ParameterLayout(std::span<const int64_t> sizes, int64_t bucket_elements, int parts);
};

/// [first, first + elements)
struct ElementRange {
  int64_t first = 0, elements = 0;
  int64_t end() const { return first + elements; }
};

/// What two ranges share. `elements` is 0 when they share nothing.
ElementRange intersection(const ElementRange& a, const ElementRange& b);

}  // namespace strand
