#include "core/temporary_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/remove_temporary_paths.h"

namespace strand {

namespace {
constexpr size_t most_paths = 128;
constexpr int deepest_directory = 8;
constexpr int attempts = 100;  // another thread may still be creating files in it
constexpr char removed_suffix[] = ".tmp";

enum State : int { unused, changing, in_use };

struct Slot {
  std::atomic<int> state = unused;
  std::array<char, PATH_MAX> path;
};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not lock");

std::array<Slot, most_paths> slots;

// ---- What follows runs in a signal handler: system calls, memory on the stack, nothing else -----------------------

// The system's layout of a directory entry (getdents64(2)).
struct Entry {
  uint64_t inode;
  int64_t offset;
  uint16_t bytes;
  uint8_t type;
  char name[1];
};

bool is_dot(const char* name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

void remove_at(int parent, const char* name, int depth);

void empty_directory(int directory, int depth) {
  alignas(Entry) char buffer[4096];
  for (;;) {
    const long bytes = syscall(SYS_getdents64, directory, buffer, sizeof(buffer));
    if (bytes <= 0) return;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      if (!is_dot(entry->name)) remove_at(directory, entry->name, depth + 1);
      at += entry->bytes;
    }
  }
}

void remove_at(int parent, const char* name, int depth) {
  for (int attempt = 0; attempt < attempts; ++attempt) {
    if (unlinkat(parent, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) return;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT || depth > deepest_directory) return;
    const int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0) return;
    empty_directory(directory, depth);
    close(directory);
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0) return;
    sched_yield();
  }
}

/// A directory first gets a name of its own (`path` and ".tmp"). Another thread may be about to give it its final name:
/// then either that rename comes first and nothing is removed, or it fails.
void remove_path(const char* path) {
  if (unlink(path) == 0 || (errno != EISDIR && errno != EPERM)) return;
  std::array<char, PATH_MAX + sizeof(removed_suffix)> doomed;
  const size_t length = std::strlen(path);
  std::memcpy(doomed.data(), path, length);
  std::memcpy(doomed.data() + length, removed_suffix, sizeof(removed_suffix));
  if (rename(path, doomed.data()) == 0) remove_at(AT_FDCWD, doomed.data(), 0);
}

void remove_all() noexcept {
  for (Slot& slot : slots) {
    if (slot.state == in_use) remove_path(slot.path.data());
  }
}

extern "C" void remove_and_end(int signal) {
  remove_all();
  // The signal is raised again with its default action, so that a process that waits for this one learns which signal
  // ended it.
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  raise(signal);
}

// -------------------------------------------------------------------------------------------------------------------

// Every signal whose default action ends the process, except SIGKILL.
bool ends_the_process(int signal) {
  switch (signal) {
    case SIGKILL:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGCONT:
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
      return false;
    default:
      return true;
  }
}

void install_handlers() {
  struct sigaction action {};
  action.sa_handler = remove_and_end;
  sigfillset(&action.sa_mask);  // so that no second signal interrupts the handler
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (!ends_the_process(signal)) continue;
    struct sigaction before {};
    // Two signals below SIGRTMIN belong to the C library, which refuses them.
    if (sigaction(signal, nullptr, &before) != 0) continue;
    const bool untouched = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
    if (untouched) sigaction(signal, &action, nullptr);
  }
}
}  // namespace

TemporaryPath::TemporaryPath(const std::string& path) {
  const std::string absolute = std::filesystem::absolute(path).string();
  require(absolute.size() < PATH_MAX, "the path {} is too long", path);
  for (slot_ = 0; slot_ < most_paths; ++slot_) {
    int expected = unused;
    if (slots[slot_].state.compare_exchange_strong(expected, changing)) break;
  }
  require(slot_ < most_paths, "more than {} temporary files at once", most_paths);
  std::memcpy(slots[slot_].path.data(), absolute.c_str(), absolute.size() + 1);
  slots[slot_].state = in_use;
  install_handlers();
}

TemporaryPath::~TemporaryPath() {
  slots[slot_].state = unused;
}

void remove_temporary_paths() noexcept {
  remove_all();
}

}  // namespace strand
