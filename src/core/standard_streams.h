#pragma once
// Standard output and standard error, for programs whose output may be a full disk, a closed pipe or a closed
// descriptor.
//
// A command prints its result with print_out(); main calls finish_output() at the end. Both throw Error when the system
// does not take the bytes, so that a result that was lost never looks like success.
#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace strand {

/// Opens /dev/null in place of each of the descriptors 0, 1 and 2 that is closed. Without that, the first files that
/// the program opens would get these numbers, and printed text would go into those files. main() calls it first.
void open_standard_streams();

/// Ignores SIGPIPE and SIGXFSZ, so that instead of ending the process they make writes fail (EPIPE, EFBIG); such a
/// failure is handled like that of any other write.
void make_write_signals_errors();

/// Writes to standard output. The bytes may stay in a buffer until flush_output() or the end of the program. Throws
/// Error when the system does not take them.
void write_output(std::string_view text);

template <typename... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  write_output(fmt::vformat(format, fmt::make_format_args(args...)));
}

/// Hands what is buffered to the system. Throws Error when it is not taken.
void flush_output();

/// What happened to text that was offered.
enum class Offered : uint8_t {
  taken,
  lost,         ///< finish_output() will throw
  nobody_reads  ///< the reader closed the pipe, or the terminal hung up: from now on all output goes to /dev/null
};

/// Writes to standard output and flushes, for work that goes on without its output. `reason` receives the system's
/// words when the text was not taken.
Offered offer_output(std::string_view text, std::string& reason);

/// The end of the program: flushes, and throws Error when anything that was ever written to standard output, by
/// whatever part of the program, was lost.
void finish_output();

/// Writes to standard error. A failure is ignored, because there is no other place to report it.
void write_error(std::string_view text) noexcept;

}  // namespace strand
