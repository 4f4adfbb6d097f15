#pragma once
// A file or directory that is not finished yet, and that is to be removed when the process ends before it is finished.
// Destructors remove it when the program ends by itself. A TemporaryPath removes it when a signal ends the process
// (Ctrl-C, the end of a session, a batch system's limit, an abort, a crash). Only SIGKILL leaves the path behind.
#include <cstddef>
#include <string>

namespace strand {

class TemporaryPath {
 public:
  /// From now on, a signal that would end the process first removes `path` with everything in it. Signals that other
  /// code handles, and signals that are ignored, keep their meaning. `path` need not exist.
  explicit TemporaryPath(const std::string& path);
  /// Forgets the path and removes nothing.
  ~TemporaryPath();
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

 private:
  size_t slot_;
};

}  // namespace strand
