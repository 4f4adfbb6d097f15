#pragma once
// The message of an error says what happened, where, and what to do about it. Everything that comes from outside
// (configurations, files, the environment, other ranks) is checked before it is used, and refused with one of these
// errors. `main` prints the message on one line and exits with 1, or with 2 for a UsageError.
#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace strand {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The command line itself is wrong. The program exits with 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The device itself has failed (a kernel's fault, an error of its memory): it can do nothing more for this process.
class DeviceFault : public Error {
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

/// Throws Error with a message about `path` and the text of errno: "cannot open X: No such file or directory". `what`
/// is the verb.
[[noreturn]] void fail_errno(const std::string& what, const std::string& path);

/// The candidate nearest to `word` by edit distance, or "" when none is near enough to be a likely slip.
std::string nearest_word(const std::string& word, const std::string* begin, const std::string* end);

}  // namespace strand
