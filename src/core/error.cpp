#include "core/error.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/nearest.h"

namespace strand {

void fail_errno(const std::string& what, const std::string& path) {
  const int code = errno;
  fail("cannot {} {}: {}", what, path, std::strerror(code));
}

std::string nearest_word(const std::string& word, const std::string* begin, const std::string* end) {
  const std::vector<std::string> nearest = nearest_names(word, {begin, end});
  return nearest.empty() ? "" : nearest.front();
}

}  // namespace strand
