#include "data/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/error.h"
#include "core/file_io.h"

namespace strand {

namespace {
constexpr size_t buffer_bytes = size_t{1} << 20;

void write_all(int descriptor, const char* data, size_t bytes, uint64_t offset, const std::string& path) {
  while (bytes > 0) {
    const ssize_t done = pwrite(descriptor, data, bytes, static_cast<off_t>(offset));
    if (done < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path);
    }
    data += done;
    bytes -= static_cast<size_t>(done);
    offset += static_cast<uint64_t>(done);
  }
}
}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  temporary_ = path_ + ".tmp";
  make_directories(parent_directory(path_));
  require(!std::filesystem::is_directory(path_), "cannot write {}: it is a directory", path_);
  descriptor_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_errno("create", temporary_);
  buffer_.reserve(buffer_bytes);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!published_) unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  const char* source = static_cast<const char*>(data);
  if (buffer_.size() + bytes > buffer_bytes) flush();
  if (bytes >= buffer_bytes) {
    write_all(descriptor_, source, bytes, size_, temporary_);
  } else {
    buffer_.insert(buffer_.end(), source, source + bytes);
  }
  size_ += bytes;
}

void OutputFile::flush() {
  write_all(descriptor_, buffer_.data(), buffer_.size(), size_ - buffer_.size(), temporary_);
  buffer_.clear();
}

void OutputFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  require(offset + bytes <= size_, "write_at past the end of {}", temporary_);
  flush();
  write_all(descriptor_, static_cast<const char*>(data), bytes, offset, temporary_);
}

void OutputFile::read_at(uint64_t offset, void* data, size_t bytes) {
  flush();
  char* target = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t done = pread(descriptor_, target, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_errno("read back", temporary_);
    require(done > 0, "cannot read back {}: it ends at byte {}", temporary_, offset);
    target += done;
    bytes -= static_cast<size_t>(done);
    offset += static_cast<uint64_t>(done);
  }
}

void OutputFile::seal() {
  flush();
  if (fsync(descriptor_) != 0) fail_errno("sync", temporary_);
  const int result = close(descriptor_);
  descriptor_ = -1;
  if (result != 0) fail_errno("close", temporary_);
}

void OutputFile::publish() {
  require(descriptor_ < 0, "{} is published before it is sealed", path_);
  rename_path(temporary_, path_);
  published_ = true;
  sync_directory(parent_directory(path_));
}

}  // namespace strand
