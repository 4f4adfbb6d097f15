#include "core/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"

namespace strand {

// ---- The system's layer -------------------------------------------------------------------------------------------

int FileLayer::open(const std::string& path, int flags, mode_t mode) {
  return ::open(path.c_str(), flags, mode);
}
ssize_t FileLayer::write(int descriptor, const void* bytes, size_t count) {
  return ::write(descriptor, bytes, count);
}
ssize_t FileLayer::write_at(int descriptor, const void* bytes, size_t count, uint64_t offset) {
  return ::pwrite(descriptor, bytes, count, static_cast<off_t>(offset));
}
int FileLayer::fsync(int descriptor) {
  return ::fsync(descriptor);
}
int FileLayer::close(int descriptor) {
  return ::close(descriptor);
}
int FileLayer::give_name(int descriptor, const std::string& path) {
  const std::string open_file = fmt::format("/proc/self/fd/{}", descriptor);
  return ::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
}
int FileLayer::rename(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str());
}
int FileLayer::exchange(const std::string& one, const std::string& other) {
  return ::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
}
int FileLayer::unlink(const std::string& path) {
  return ::unlink(path.c_str());
}
int FileLayer::mkdir(const std::string& path, mode_t mode) {
  return ::mkdir(path.c_str(), mode);
}
int FileLayer::rmdir(const std::string& path) {
  return ::rmdir(path.c_str());
}

namespace {
FileLayer system_layer;
FileLayer* interposed_layer = nullptr;
}  // namespace

FileLayer& file_layer() {
  return interposed_layer != nullptr ? *interposed_layer : system_layer;
}

InterposedFileLayer::InterposedFileLayer(FileLayer& layer) : previous_(std::exchange(interposed_layer, &layer)) {}
InterposedFileLayer::~InterposedFileLayer() {
  interposed_layer = previous_;
}

// ---- Digests ------------------------------------------------------------------------------------------------------

struct DigestStream::State {
  XXH3_state_t* hash = XXH3_createState();
  uint64_t bytes = 0;

  State() {
    require(hash != nullptr, "no memory for a checksum");
    XXH3_64bits_reset(hash);
  }
  ~State() { XXH3_freeState(hash); }
};

DigestStream::DigestStream() : state_(std::make_unique<State>()) {}
DigestStream::~DigestStream() = default;

void DigestStream::add(const void* bytes, size_t count) {
  if (count == 0) return;
  XXH3_64bits_update(state_->hash, bytes, count);
  state_->bytes += count;
}

FileDigest DigestStream::digest() const {
  return {state_->bytes, fmt::format("{:016x}", XXH3_64bits_digest(state_->hash))};
}

FileDigest digest_of_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) fail_errno("open", path);
  std::vector<char> buffer(digest_block_bytes);
  DigestStream stream;
  size_t count = 0;
  while ((count = std::fread(buffer.data(), 1, buffer.size(), file)) > 0) stream.add(buffer.data(), count);
  const bool failed = std::ferror(file) != 0;
  const int code = errno;
  std::fclose(file);
  errno = code;
  if (failed) fail_errno("read", path);
  return stream.digest();
}

// ---- Writing ------------------------------------------------------------------------------------------------------

namespace {
int open_or_fail(const std::string& path, int flags) {
  const int descriptor = file_layer().open(path, flags | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_errno("create", path);
  return descriptor;
}

void write_all(int descriptor, const char* bytes, size_t count, const std::string& path) {
  while (count > 0) {
    const ssize_t done = file_layer().write(descriptor, bytes, count);
    if (done < 0) {
      if (errno == EINTR) continue;
      fail_errno("write", path);
    }
    require(done > 0, "cannot write {}: the system accepts no bytes", path);
    bytes += done;
    count -= static_cast<size_t>(done);
  }
}

std::string replaceable(std::string path) {
  require_replaceable(path);
  return path;
}
}  // namespace

void require_replaceable(const std::string& path) {
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  require(kind != std::filesystem::file_type::directory, "cannot write {}: it is a directory", path);
  const bool fine = kind == std::filesystem::file_type::regular || kind == std::filesystem::file_type::not_found;
  require(fine || error, "cannot write {}: it is not a file", path);
}

AtomicFile::AtomicFile(std::string path)
    : path_(replaceable(std::move(path))),
      temporary_(path_ + ".tmp"),
      on_signal_(temporary_),
      descriptor_(open_or_fail(temporary_, O_WRONLY | O_CREAT | O_TRUNC)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) file_layer().close(descriptor_);
  if (!committed_) file_layer().unlink(temporary_);
}

void AtomicFile::write(const void* bytes, size_t count) {
  write_all(descriptor_, static_cast<const char*>(bytes), count, temporary_);
  digest_.add(bytes, count);
}

FileDigest AtomicFile::commit() {
  require(descriptor_ >= 0, "{} is committed twice", path_);
  if (file_layer().fsync(descriptor_) != 0) fail_errno("sync", temporary_);
  if (file_layer().close(std::exchange(descriptor_, -1)) != 0) fail_errno("close", temporary_);
  rename_path(temporary_, path_);
  committed_ = true;
  sync_directory(parent_directory(path_));
  return digest_.digest();
}

AppendFile::AppendFile(std::string path)
    : path_(std::move(path)), descriptor_(open_or_fail(path_, O_WRONLY | O_CREAT | O_APPEND)) {}

AppendFile::~AppendFile() {
  file_layer().close(descriptor_);
}

void AppendFile::write(std::string_view bytes) {
  write_all(descriptor_, bytes.data(), bytes.size(), path_);
}

void AppendFile::sync() {
  if (file_layer().fsync(descriptor_) != 0) fail_errno("sync", path_);
  sync_directory(parent_directory(path_));  // as the file may be new
}

FileDigest write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  return file.commit();
}

namespace {
std::string read_sized(std::FILE* file, uint64_t size, const std::string& path) {
  std::string bytes(size, '\0');
  const size_t count = std::fread(bytes.data(), 1, size, file);
  require(count == size, "cannot read {}: it ended at byte {} of {}", path, count, size);
  return bytes;
}

std::string read_to_end(std::FILE* file, uint64_t limit, const std::string& path) {
  std::string bytes;
  std::vector<char> block(piped_block_bytes);
  while (const size_t count = std::fread(block.data(), 1, block.size(), file)) {
    bytes.append(block.data(), count);
    require(bytes.size() <= limit, "{} gives more than {} bytes, and such a file has at most that many", path, limit);
  }
  if (std::ferror(file) != 0) fail_errno("read", path);
  return bytes;
}
}  // namespace

std::string read_file(const std::string& path, uint64_t limit) {
  std::error_code error;
  require(!std::filesystem::is_directory(path, error), "cannot read {}: it is a directory", path);
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) fail_errno("open", path);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closer(file, &std::fclose);
  struct stat status = {};
  if (fstat(fileno(file), &status) != 0) fail_errno("look at", path);
  const auto size = static_cast<uint64_t>(status.st_size);
  const bool sized = S_ISREG(status.st_mode) && size > 0;  // pipes, terminals and files of /proc do not tell their size
  require(!sized || size <= limit, "{} has {} bytes; such a file has at most {}", path, size, limit);
  return sized ? read_sized(file, size, path) : read_to_end(file, limit, path);
}

// ---- Directories --------------------------------------------------------------------------------------------------

std::string parent_directory(const std::string& path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();  // "a/b/" names what "a/b" names
  const std::string parent = p.parent_path().string();
  return parent.empty() ? "." : parent;
}

void make_directories(const std::string& path) {
  if (std::filesystem::is_directory(path)) return;
  const std::string parent = parent_directory(path);
  if (parent != path) make_directories(parent);
  if (file_layer().mkdir(path, 0777) != 0 && !(errno == EEXIST && std::filesystem::is_directory(path))) {
    fail_errno("create directory", path);
  }
  sync_directory(parent);
}

void sync_directory(const std::string& path) {
  const int descriptor = file_layer().open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (descriptor < 0) fail_errno("open directory", path);
  const int result = file_layer().fsync(descriptor);
  const int code = errno;
  file_layer().close(descriptor);
  errno = code;
  // Some network file systems cannot sync a directory, and answer EINVAL. Nothing more can be done there.
  if (result != 0 && errno != EINVAL) fail_errno("sync directory", path);
}

void rename_path(const std::string& from, const std::string& to) {
  if (file_layer().rename(from, to) != 0) fail_errno("rename " + from + " to", to);
}

void remove_tree(const std::string& path) {
  std::error_code error;
  const auto kind = std::filesystem::symlink_status(path, error).type();
  if (kind != std::filesystem::file_type::directory) {
    if (file_layer().unlink(path) != 0) fail_errno("remove", path);
    return;
  }
  std::vector<std::string> inside;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) inside.push_back(entry.path().string());
  require(!error, "cannot list {}: {}", path, error.message());
  for (const std::string& entry : inside) remove_tree(entry);
  if (file_layer().rmdir(path) != 0) fail_errno("remove directory", path);
}

}  // namespace strand
