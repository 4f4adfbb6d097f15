#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/error.h"

namespace strand {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  MappedFile file;  // ends what was begun when something below fails
  file.descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.descriptor_ < 0) fail_errno("open", path);
  struct stat status = {};
  if (fstat(file.descriptor_, &status) != 0) fail_errno("look at", path);
  if (!S_ISREG(status.st_mode)) fail("{} is not a regular file", path);
  file.size_ = static_cast<uint64_t>(status.st_size);
  if (file.size_ > 0) {  // mmap refuses a length of zero
    void* address = mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, file.descriptor_, 0);
    if (address == MAP_FAILED) fail_errno("map", path);
    file.data_ = static_cast<const std::byte*>(address);
  }
  file.path_ = path;
  *this = std::move(file);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void MappedFile::read(uint64_t begin, size_t bytes, void* out) const {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got =
        pread(descriptor_, static_cast<std::byte*>(out) + done, bytes - done, static_cast<off_t>(begin + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno("read", path_);
    require(got > 0, "{} has become shorter while it was in use: it had {} bytes, and byte {} is not there any more",
            path_, size_, begin + done);
    done += static_cast<size_t>(got);
  }
}

}  // namespace strand
