#pragma once
// The system's file layer with one fault in it, chosen by text:
//   none          no fault
//   kill:N        SIGKILL instead of the N-th call (from 0) that changes the disk
//   torn:N        half of the bytes of the N-th write, then SIGKILL
//   full:N        from the N-th call that needs space on, the disk is full
//   short         every write is interrupted once and then takes only half of its bytes
//   log:N         the disk is full for three writes to log.jsonl, from row N (from 1) on, which is written by half
//   nolog:N       as log:N, but nothing is written to log.jsonl any more
//   row:N         SIGKILL after row N (from 1) was added to log.jsonl
//   term:N, int:N SIGTERM or SIGINT then; terms:N SIGTERM twice
//   spoil:N       a bit of the N-th checkpoint flips as soon as it has its name
// When a fault strikes, "fault reached" is said on stderr. Syncs are counted but not waited for: a process that dies
// loses nothing by that.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/file_io.h"

namespace strand::test {

inline constexpr const char* fault_mark = "fault reached\n";

class FaultLayer : public FileLayer {
 public:
  explicit FaultLayer(const std::string& fault) : kind_(fault.substr(0, fault.find(':'))) {
    if (const size_t colon = fault.find(':'); colon != fault.npos) at_ = std::stol(fault.substr(colon + 1));
    log_fails_ = kind_ == "log" || kind_ == "nolog";
    at_row_ = kind_ == "row" || kind_ == "term" || kind_ == "int" || kind_ == "terms" || log_fails_;
    if (at_row_) --at_;  // rows count from 1, calls from 0
    const bool at_call = kind_ == "kill" || kind_ == "torn" || kind_ == "full" || kind_ == "spoil";
    require(at_ >= 0 ? at_row_ || at_call : kind_ == "none" || kind_ == "short", "no such fault: {}", fault);
  }

  int open(const std::string& path, int flags, mode_t mode) override {
    if (refused(flags & O_CREAT ? Call::takes_space : Call::other)) return -1;
    const int descriptor = FileLayer::open(path, flags, mode);
    if (at_row_ && path.ends_with("log.jsonl")) log_ = descriptor;
    return descriptor;
  }
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (kind_ == "torn" && hit()) {
      (void)!FileLayer::write(descriptor, bytes, count / 2);
      die();
    }
    if (refused(Call::takes_space)) return -1;
    if (kind_ == "short") {
      interrupted_ = !interrupted_;
      if (interrupted_) return errno = EINTR, -1;
      count = (count + 1) / 2;
    }
    if (descriptor == log_ && log_fails_ && hit()) return write_to_full_disk(descriptor, bytes, count);
    const ssize_t done = FileLayer::write(descriptor, bytes, count);
    if (descriptor == log_ && !log_fails_ && hit()) after_row();
    return done;
  }
  int fsync(int) override { return refused(Call::other) ? -1 : 0; }
  int close(int descriptor) override {
    refused(Call::other);
    if (descriptor == log_) log_ = -2;
    return FileLayer::close(descriptor);
  }
  int rename(const std::string& from, const std::string& to) override {
    if (refused(Call::other)) return -1;
    const int result = FileLayer::rename(from, to);
    if (kind_ == "spoil" && to.find("/step_") != to.npos && calls_++ == at_) flip_a_bit(to + "/model.safetensors");
    return result;
  }
  int exchange(const std::string& one, const std::string& other) override {
    return refused(Call::other) ? -1 : FileLayer::exchange(one, other);
  }
  int unlink(const std::string& path) override { return refused(Call::other) ? -1 : FileLayer::unlink(path); }
  int mkdir(const std::string& path, mode_t mode) override {
    return refused(Call::takes_space) ? -1 : FileLayer::mkdir(path, mode);
  }
  int rmdir(const std::string& path) override { return refused(Call::other) ? -1 : FileLayer::rmdir(path); }

 private:
  enum class Call { takes_space, other };

  /// Counts a call that the fault is about. Returns true from the chosen call on.
  bool hit() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const long call = calls_++;
    if (call == at_) (void)!::write(STDERR_FILENO, fault_mark, std::char_traits<char>::length(fault_mark));
    return call >= at_;
  }
  ssize_t write_to_full_disk(int descriptor, const void* bytes, size_t count) {
    constexpr int refusals = 3;
    const int before = refusals_++;
    if (before == 0) return FileLayer::write(descriptor, bytes, count / 2);
    if (kind_ == "log" && before > refusals) return FileLayer::write(descriptor, bytes, count);
    return errno = ENOSPC, -1;
  }
  void after_row() {
    if (kind_ == "row") die();
    if (std::exchange(signalled_, true)) return;
    raise(kind_ == "int" ? SIGINT : SIGTERM);
    if (kind_ != "terms") return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // so that it is no echo of the first
    raise(SIGTERM);
  }
  static void flip_a_bit(const std::string& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    const char last = static_cast<char>(file.get() ^ 1);
    file.seekp(-1, std::ios::end);
    file.put(last);
  }
  [[noreturn]] static void die() {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  /// Kills the process at the chosen call. Returns true when the call is to fail.
  bool refused(Call call) {
    if (kind_ == "kill" && hit()) die();
    if (kind_ != "full" || call != Call::takes_space || !hit()) return false;
    errno = ENOSPC;
    return true;
  }

  std::string kind_;
  long at_ = -1;
  bool at_row_ = false;
  bool log_fails_ = false;
  int refusals_ = 0;  ///< writes to log.jsonl that met the full disk
  bool signalled_ = false;
  std::mutex mutex_;
  long calls_ = 0;
  bool interrupted_ = false;
  int log_ = -2;
};

}  // namespace strand::test
