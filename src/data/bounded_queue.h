#pragma once
// A first-in first-out queue between threads that holds at most `capacity` items. push() waits for room, and pop()
// waits for an item. close() wakes all threads that wait: from then on pushes are refused, and pops return the items
// that are left and then nothing.
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

namespace strand {

template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  /// Returns false when the queue is closed; the item is then dropped.
  bool push(T item) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || items_.size() < capacity_; });
    if (closed_) return false;
    items_.push_back(std::move(item));
    filled_.notify_one();
    return true;
  }

  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    room_.notify_one();
    return item;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    room_.notify_all();
    filled_.notify_all();
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable filled_;
  std::deque<T> items_;
  bool closed_ = false;
};

/// A limit to the bytes that are in flight between threads. A single load that is larger than the limit waits until
/// nothing else is in flight.
class ByteBudget {
 public:
  explicit ByteBudget(size_t limit) : limit_(limit) {}

  /// Waits for room. Returns false when the budget was closed.
  bool take(size_t bytes) {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return closed_ || taken_ == 0 || taken_ + bytes <= limit_; });
    if (!closed_) taken_ += bytes;
    return !closed_;
  }

  void give_back(size_t bytes) {
    const std::lock_guard lock(mutex_);
    taken_ -= bytes;
    returned_.notify_all();
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    returned_.notify_all();
  }

 private:
  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable returned_;
  size_t taken_ = 0;
  bool closed_ = false;
};

/// Holds bytes of a budget for the lifetime of this object.
class BytesTaken {
 public:
  BytesTaken(ByteBudget& budget, size_t bytes) : budget_(budget), bytes_(budget.take(bytes) ? bytes : 0) {}
  ~BytesTaken() { budget_.give_back(bytes_); }
  BytesTaken(const BytesTaken&) = delete;
  BytesTaken& operator=(const BytesTaken&) = delete;

 private:
  ByteBudget& budget_;
  size_t bytes_;
};

}  // namespace strand
