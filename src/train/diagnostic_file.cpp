#include "train/diagnostic_file.h"

#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/log.h"

namespace strand {

DiagnosticFile::DiagnosticFile(const std::string& path) : file_(path), size_(std::filesystem::file_size(path)) {}

void DiagnosticFile::write(std::string_view rows) {
  if (kept_.empty() || (lost_ == 0 && rows.size() <= most_kept - kept_.size()))
    kept_ += rows;
  else
    lost_ += rows.size();
  write_kept();
}

void DiagnosticFile::write_kept() {
  if (kept_.empty()) return;
  try {
    file_.write(kept_);
    size_ += kept_.size();
    kept_.clear();
  } catch (const Error& error) {
    // A part may have been written. Without it the file holds whole rows.
    std::error_code ignored;
    std::filesystem::resize_file(file_.path(), size_, ignored);
    reason_ = error.what();
    warn(reason_);
  }
}

void DiagnosticFile::sync() {
  write_kept();
  if (!kept_.empty()) return;
  try {
    file_.sync();
  } catch (const Error& error) {
    warn(error.what());
  }
}

void DiagnosticFile::finish() {
  sync();
  require(kept_.empty() && lost_ == 0, "{}: {} lacks {} bytes. The checkpoints of the run lack nothing", reason_,
          path(), kept_.size() + lost_);
}

void DiagnosticFile::warn(const std::string& reason) {
  if (warned_) return;
  warned_ = true;
  log_warning(fmt::format("{}; training goes on, and what is to be written is kept in memory until it can be", reason));
}

}  // namespace strand
