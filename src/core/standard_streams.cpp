#include "core/standard_streams.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>

#include "core/error.h"

namespace strand {

namespace {
int first_failure = 0;  ///< errno of the first write to standard output that failed; 0 = no write failed

void keep(int code) {
  if (first_failure == 0) first_failure = code != 0 ? code : EIO;
}

std::string words(int code) {
  return std::strerror(code);
}

void require_taken() {
  require(first_failure == 0, "cannot write to standard output: {}", words(first_failure));
}

bool write_and_flush(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
  if (errno == 0) errno = EIO;
  return false;
}

/// Whether nobody reads the output any more, because the pipe is closed or the terminal hung up. A terminal that hung
/// up answers EIO, as a broken disk does, so standard output also has to be a character device.
bool nobody_reads(int code) {
  struct stat status = {};
  return code == EPIPE || (code == EIO && fstat(STDOUT_FILENO, &status) == 0 && S_ISCHR(status.st_mode));
}

/// From now on standard output is /dev/null. What stdio has buffered is dropped too.
void forget_output() {
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  dup2(nowhere, STDOUT_FILENO);
  close(nowhere);
  std::clearerr(stdout);
  std::fflush(stdout);
}

/// O_NONBLOCK belongs to all processes that share the open file, so it is not taken away: the file is opened once more
/// for this process. Where that fails (no /proc, nobody reads the pipe), the descriptor stays as it is.
void block_for_this_process(int descriptor) {
  const int flags = fcntl(descriptor, F_GETFL);
  struct stat status = {};
  if (flags == -1 || (flags & O_NONBLOCK) == 0 || fstat(descriptor, &status) != 0) return;
  if (!S_ISFIFO(status.st_mode) && isatty(descriptor) != 1) return;
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  // Opening must not wait either, which it would for the other end of a pipe.
  const int own = ::open(path.c_str(), (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (own < 0) return;
  if (fcntl(own, F_SETFL, flags & ~O_NONBLOCK) == 0) dup2(own, descriptor);
  close(own);
}
}  // namespace

void open_standard_streams() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) != -1) {
      block_for_this_process(descriptor);
      continue;
    }
    // open() takes the lowest free number, and the numbers below `descriptor` are open by now.
    if (::open("/dev/null", O_RDWR) == descriptor) continue;
    write_error("strand: error: a standard descriptor is closed, and /dev/null cannot be opened in its place\n");
    std::_Exit(1);
  }
}

void make_write_signals_errors() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void write_output(std::string_view text) {
  require_taken();
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) keep(errno);
  require_taken();
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0) keep(errno);
  require_taken();
}

Offered offer_output(std::string_view text, std::string& reason) {
  if (write_and_flush(text)) return Offered::taken;
  const int code = errno;
  reason = words(code);
  if (nobody_reads(code)) {
    forget_output();
    return Offered::nobody_reads;
  }
  keep(code);
  return Offered::lost;
}

void finish_output() {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout) keep(errno);
  // A network file system may report only when a descriptor is closed that it has not taken the bytes.
  const int copy = dup(STDOUT_FILENO);
  if (copy >= 0 && close(copy) != 0) keep(errno);
  require_taken();
}

void write_error(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace strand
