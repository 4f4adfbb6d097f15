#pragma once
// Errors carry what happened, where, and what to do about it. Everything that comes from outside (configs, files, the
// environment, other ranks) is checked before it is used and refused with one of these; `main` prints the message on
// one line and exits with 1 (2 for UsageError).
#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace strand {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line itself is wrong: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::vformat(format, fmt::make_format_args(args...)));
}

/// Throws Error with a formatted message unless `condition` holds.
template <typename... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw Error(fmt::vformat(format, fmt::make_format_args(args...)));
}

/// "cannot open X: No such file or directory": a message about `path` with the text of errno.
[[noreturn]] void fail_errno(const std::string& what, const std::string& path);

/// The candidate nearest to `word` by edit distance, or "" when none is near enough to be a likely slip.
std::string nearest_word(const std::string& word, const std::string* begin, const std::string* end);

}  // namespace strand
