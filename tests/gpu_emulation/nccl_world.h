#pragma once
// What the ranks of an emulated NCCL communicator share: memory of the system under a name that the unique id carries.
// Ranks are processes. Each has a mailbox that all read (collectives), and each pair of ranks has one in each direction
// (send and receive). A mailbox is written when everybody has read what it held.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace gpu_emulation {

constexpr int most_ranks = 8;
constexpr size_t mailbox_bytes = size_t{64} << 20;  // of addresses: only what is touched takes memory

/// What a rank calls, so that the others can see that they call the same.
struct CallForm {
  char name[32];
  uint64_t count;
  int32_t type, operation, root;
  bool operator==(const CallForm&) const = default;
};

struct Mailbox {
  std::atomic<uint64_t> written;           ///< how many messages were put in so far
  std::atomic<uint64_t> read[most_ranks];  ///< how many of them each rank has read
  CallForm form;
};

struct WorldHeader {
  std::atomic<int> joined;
  std::atomic<int> process[most_ranks];  ///< process ids; 0 again: has left
  Mailbox collective[most_ranks];
  Mailbox pair[most_ranks][most_ranks];  ///< [from][to]
};

class World {
 public:
  /// Joins, and waits for all the others. `name` is the unique id's.
  World(const std::string& name, int ranks, int rank);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  Mailbox& collective(int from) { return header_->collective[from]; }
  Mailbox& pair(int from, int to) { return header_->pair[from][to]; }
  char* collective_data(int from) { return data_ + static_cast<size_t>(from) * mailbox_bytes; }
  char* pair_data(int from, int to) {
    return data_ + static_cast<size_t>(most_ranks + from * most_ranks + to) * mailbox_bytes;
  }
  /// Whether a process of the world has ended without leaving.
  bool somebody_died() const;

 private:
  std::string name_;
  int ranks_, rank_;
  WorldHeader* header_ = nullptr;
  char* data_ = nullptr;
  int processes_[most_ranks] = {};  ///< pidfds
};

}  // namespace gpu_emulation
