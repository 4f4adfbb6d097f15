#pragma once
// TensorBoard event files: scalars by tag and step, for `tensorboard --logdir`.
// A file is a sequence of TFRecords (u64 length | u32 masked CRC of the length | bytes | u32 masked CRC of the bytes,
// all little-endian), each an Event message of tensorflow/core/util/event.proto. Two messages with seven fields between
// them are encoded here by hand.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "train/diagnostic_file.h"

namespace strand {

/// CRC-32C (Castagnoli, RFC 3720).
uint32_t crc32c(std::string_view bytes);
/// A TFRecord with `payload` in it.
std::string tf_record(std::string_view payload);

class EventFile {
 public:
  /// A new file `events.out.tfevents.<seconds>.<host>.<pid>.<n>` in `directory` (created when missing). What earlier
  /// files there say of steps from `first_step` on is superseded: TensorBoard drops it.
  EventFile(const std::string& directory, int64_t first_step);
  /// Flushes.
  ~EventFile();

  /// NaN and infinity are legal; TensorBoard marks them.
  void scalar(std::string_view tag, int64_t step, double value);
  /// Hands everything to the system. What it does not take is kept (train/diagnostic_file.h).
  void flush();
  /// Flushes, and writes through to the disk.
  void sync();
  /// At the end of a run: throws Error when the system has not taken everything.
  void finish();
  const std::string& path() const { return file_->path(); }

 private:
  void event(int64_t step, std::string_view what);

  std::unique_ptr<DiagnosticFile> file_;
  std::string pending_;
};

}  // namespace strand
