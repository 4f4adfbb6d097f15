#pragma once
// A file that tells people of a run, and without which the run can go on: log.jsonl, and TensorBoard's events. It never
// stops a run. What the system does not take (a full disk, a limit of the size of files) is kept in memory and written
// as soon as the system takes it, so that a disk which was full for a while leaves no gap.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/file_io.h"

namespace strand {

class DiagnosticFile {
 public:
  /// Bytes that are kept in memory at most. What comes after them is lost, and finish() says so.
  static constexpr size_t most_kept = size_t{64} << 20;

  /// Opens the file for appending, and creates it if it is missing. Throws Error.
  explicit DiagnosticFile(const std::string& path);

  /// Writes a row, or several. When this returns, the system has them all, or none. The first refusal is said in a
  /// warning.
  void write(std::string_view rows);
  /// Writes through to the disk. A failure is said in a warning, unless one was said before.
  void sync();
  /// At the end of a run: throws Error when bytes are missing in the file after all.
  void finish();

  const std::string& path() const { return file_.path(); }

 private:
  void write_kept();
  void warn(const std::string& reason);

  AppendFile file_;
  uint64_t size_ = 0;   ///< bytes that the file has
  std::string kept_;    ///< rows that the system has not taken yet, in their order
  std::string reason_;  ///< why not, the last time
  uint64_t lost_ = 0;   ///< bytes of rows for which there was no room in `kept_`
  bool warned_ = false;
};

}  // namespace strand
