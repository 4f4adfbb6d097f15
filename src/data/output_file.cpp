#include "data/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/error.h"
#include "core/file_io.h"

namespace strand {

namespace {
void write_all(int descriptor, const char* data, size_t bytes, uint64_t offset, const std::string& path) {
  while (bytes > 0) {
    const ssize_t done = file_layer().write_at(descriptor, data, bytes, offset);
    if (done < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path);
    }
    data += done;
    bytes -= static_cast<size_t>(done);
    offset += static_cast<uint64_t>(done);
  }
}

// The name under which the system shows an open file to its own process.
std::string link_to(int descriptor) {
  return fmt::format("/proc/self/fd/{}", descriptor);
}
}  // namespace

OutputFile::OutputFile(std::string path, Kind kind) : path_(std::move(path)) {
  temporary_ = path_ + ".tmp";
  make_directories(parent_directory(path_));
  require_replaceable(path_);
  // A writer of this path that was killed may have left a file of this name.
  if (file_layer().unlink(temporary_) != 0 && errno != ENOENT) fail_errno("remove", temporary_);
  if (kind == Kind::with_temporary_name || !open_without_name()) {
    until_published_.emplace(temporary_);
    descriptor_ = file_layer().open(temporary_, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_errno("create", temporary_);
    has_name_ = true;
  }
  buffer_.reserve(buffer_bytes);
}

// Returns false where a file without a name cannot be made, or could not be given a name later.
bool OutputFile::open_without_name() {
  descriptor_ = file_layer().open(parent_directory(path_), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
  if (descriptor_ < 0) return false;
  if (access(link_to(descriptor_).c_str(), F_OK) == 0) return true;
  file_layer().close(std::exchange(descriptor_, -1));
  return false;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) file_layer().close(descriptor_);
  if (has_name_) file_layer().unlink(temporary_);
}

void OutputFile::write(const void* data, size_t bytes) {
  const char* source = static_cast<const char*>(data);
  if (buffer_.size() + bytes > buffer_bytes) flush();
  if (bytes >= buffer_bytes) {
    write_all(descriptor_, source, bytes, size_, path_);
  } else {
    buffer_.insert(buffer_.end(), source, source + bytes);
  }
  size_ += bytes;
}

void OutputFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), size_ - buffer_.size(), path_);
  buffer_.clear();
}

void OutputFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  require(offset + bytes <= size_, "write_at past the end of {}", path_);
  flush();
  write_all(descriptor_, static_cast<const char*>(data), bytes, offset, path_);
}

void OutputFile::read_at(uint64_t offset, void* data, size_t bytes) {
  flush();
  char* target = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t done = pread(descriptor_, target, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_errno("read back", path_);
    require(done > 0, "cannot read back {}: it ends at byte {}", path_, offset);
    target += done;
    bytes -= static_cast<size_t>(done);
    offset += static_cast<uint64_t>(done);
  }
}

void OutputFile::seal() {
  flush();
  if (file_layer().fsync(descriptor_) != 0) fail_errno("sync", path_);
  sealed_ = true;
}

void OutputFile::publish() {
  require(sealed_ && descriptor_ >= 0, "{} is published before it is sealed", path_);
  if (!has_name_) {
    // A link cannot replace an older file, a rename can.
    until_published_.emplace(temporary_);
    if (file_layer().give_name(descriptor_, temporary_) != 0) fail_errno("give a name to", temporary_);
    has_name_ = true;
  }
  if (file_layer().close(std::exchange(descriptor_, -1)) != 0) fail_errno("close", temporary_);
  rename_path(temporary_, path_);
  has_name_ = false;
  until_published_.reset();
  sync_directory(parent_directory(path_));
}

}  // namespace strand
