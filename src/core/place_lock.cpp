#include "core/place_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
// The process that holds byte 0 is the owner. It must have held byte 1 alone for a moment before. The other processes
// of its run share byte 1.
constexpr off_t owner_byte = 0, members_byte = 1;
constexpr int attempts = 100;  ///< an attempt fails only when another process removes its lock's file at that moment

/// A lock of fcntl on an open file description. Unlike flock it works on NFS, and unlike a plain lock of fcntl it does
/// not end when the process closes another descriptor of the same file. Returns -1 and sets errno when the lock is not
/// given.
int lock_bytes(int descriptor, short kind, off_t first, off_t count) {
  struct flock range {};
  range.l_type = kind;
  range.l_whence = SEEK_SET;
  range.l_start = first;
  range.l_len = count;
  return fcntl(descriptor, F_OFD_SETLK, &range);
}

bool is_held(int descriptor, off_t byte) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = byte;
  range.l_len = 1;
  return fcntl(descriptor, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "unknown";
}

std::string time_now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S %z", &local)};
}

/// What the owner wrote into the file, without characters that cannot be printed.
std::string holder(int descriptor) {
  std::array<char, 512> bytes{};
  const ssize_t count = pread(descriptor, bytes.data(), bytes.size(), 0);
  std::string text(bytes.data(), count > 0 ? static_cast<size_t>(count) : 0);
  text.resize(std::min(text.find('\n'), text.size()));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text.empty() ? "another process" : text;
}

[[noreturn]] void refuse(int descriptor, const std::string& place, const PlaceLock::Request& request) {
  if (is_held(descriptor, owner_byte))
    fail("{} is in use by {}: wait until it has ended, or {}", place, holder(descriptor), request.otherwise);
  fail(
      "{} was in use by {}, which has ended, but other processes of the same run have not: wait until they have, or {}",
      place, holder(descriptor), request.otherwise);
}

/// The directories that are missing on the way to `directory`, the innermost first.
std::vector<std::string> missing_directories(std::string directory) {
  std::vector<std::string> missing;
  while (!fs::exists(directory)) {
    missing.push_back(directory);
    std::string parent = parent_directory(directory);
    if (parent == directory) break;
    directory = std::move(parent);
  }
  return missing;
}
}  // namespace

PlaceLock PlaceLock::of_directory(const std::string& directory, const Request& request) {
  PlaceLock lock;
  lock.created_ = missing_directories(directory);
  make_directories(directory);
  lock.path_ = (fs::path(directory) / ".lock").string();
  lock.open_and_lock(directory, request);
  return lock;
}

PlaceLock PlaceLock::of_output(const std::string& path, const Request& request) {
  fs::path place = fs::path(path).lexically_normal();
  if (!place.has_filename()) place = place.parent_path();  // "out/"
  const std::string directory = parent_directory(place.string());
  PlaceLock lock;
  lock.created_ = missing_directories(directory);
  make_directories(directory);
  lock.path_ = (fs::path(directory) / ("." + place.filename().string() + ".lock")).string();
  lock.open_and_lock(path, request);
  return lock;
}

PlaceLock PlaceLock::join_directory(const std::string& directory) {
  PlaceLock lock;
  lock.path_ = (fs::path(directory) / ".lock").string();
  lock.descriptor_ = ::open(lock.path_.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (lock.descriptor_ >= 0) lock_bytes(lock.descriptor_, F_RDLCK, members_byte, 1);
  return lock;
}

void PlaceLock::open_and_lock(const std::string& place, const Request& request) {
  for (int attempt = 0; attempt < attempts; ++attempt) {
    // A link is not followed, as the file that it leads to would be written over.
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_errno("open the lock", path_);
    if (lock_bytes(descriptor_, F_WRLCK, owner_byte, 2) != 0) {
      if (errno == EAGAIN || errno == EACCES) refuse(descriptor_, place, request);
      log_warning(
          fmt::format("{} cannot be locked ({}): nothing keeps another process from writing there at the same "
                      "time",
                      place, std::strerror(errno)));
      owner_ = true;
      on_signal_ = std::make_unique<TemporaryPath>(path_);
      return;
    }
    if (is_still_there()) {
      owner_ = true;
      on_signal_ = std::make_unique<TemporaryPath>(path_);
      say_who(request);
      lock_bytes(descriptor_, F_UNLCK, members_byte, 1);
      return;
    }
    close(std::exchange(descriptor_, -1));
  }
  fail("cannot lock {}: its file {} is removed again and again", place, path_);
}

/// Returns false when the previous owner has removed the file after we opened it and before we locked it. Then another
/// process may lock a new file of this name.
bool PlaceLock::is_still_there() const {
  struct stat ours = {}, named = {};
  return fstat(descriptor_, &ours) == 0 && stat(path_.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
         ours.st_ino == named.st_ino;
}

/// Writes who holds the lock, for people. A failure (a full disk) is ignored, because the lock holds without it.
void PlaceLock::say_who(const Request& request) const {
  const std::string text =
      fmt::format("process {} on host {} ({}, since {})\n", getpid(), host_name(), request.command, time_now());
  if (ftruncate(descriptor_, 0) == 0) (void)!pwrite(descriptor_, text.data(), text.size(), 0);
}

PlaceLock::PlaceLock(PlaceLock&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      owner_(std::exchange(other.owner_, false)),
      on_signal_(std::move(other.on_signal_)),
      created_(std::exchange(other.created_, {})) {}

PlaceLock::~PlaceLock() {
  if (owner_) unlink(path_.c_str());  // before the lock ends, so that nobody locks a file that is about to go
  on_signal_.reset();                 // and before somebody else's file has this name
  if (descriptor_ >= 0) close(descriptor_);
  for (const std::string& directory : created_)
    if (rmdir(directory.c_str()) != 0) break;  // something is in it
}

}  // namespace strand
