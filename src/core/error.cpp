#include "core/error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace strand {

void fail_errno(const std::string& what, const std::string& path) {
  const int code = errno;
  fail("cannot {} {}: {}", what, path, std::strerror(code));
}

namespace {
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}
}  // namespace

std::string nearest_word(const std::string& word, const std::string* begin, const std::string* end) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 2) + 1;
  for (const std::string* candidate = begin; candidate != end; ++candidate) {
    const size_t distance = edit_distance(word, *candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = *candidate;
    }
  }
  return best;
}

}  // namespace strand
