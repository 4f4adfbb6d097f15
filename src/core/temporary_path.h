#pragma once
// A file or directory that is in the making, and that goes when the process ends before it is finished. Destructors do
// that when the program ends by itself; a TemporaryPath does it for the case that a signal ends the process (Ctrl-C,
// the end of a session, a batch system's limit, an abort, a crash). Only SIGKILL leaves the path behind.
#include <cstddef>
#include <string>

namespace strand {

class TemporaryPath {
 public:
  /// From now on a signal that ends the process removes `path`, with all that is in it, before. Signals that somebody
  /// else handles, or that are ignored, keep their meaning. `path` need not exist (yet, or any more).
  explicit TemporaryPath(const std::string& path);
  /// Forgets the path and removes nothing.
  ~TemporaryPath();
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

 private:
  size_t slot_;
};

}  // namespace strand
