#include "parallel/mpi_board.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "parallel/mpi_error.h"

namespace strand {

static_assert(std::atomic<int64_t>::is_always_lock_free, "a board between processes knows no locks");

namespace {
int64_t now_ns() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

/// In words, so that a reader sees each word whole; a text that changes meanwhile may come out mixed, never unended.
void store(Seat::Text& to, const char* text) {
  char bytes[sizeof(Seat::Text)] = {};
  std::strncpy(bytes, text, sizeof bytes - 1);
  for (size_t i = 0; i < to.size(); ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i * sizeof word, sizeof word);
    to[i].store(word, std::memory_order_relaxed);
  }
}

std::string load(const Seat::Text& from) {
  char bytes[sizeof(Seat::Text) + 1] = {};
  for (size_t i = 0; i < from.size(); ++i) {
    const uint64_t word = from[i].load(std::memory_order_relaxed);
    std::memcpy(bytes + i * sizeof word, &word, sizeof word);
  }
  return bytes;
}
}  // namespace

Place Place::of(const Progress& p) {
  return {p.step.load(std::memory_order_relaxed), p.layer.load(std::memory_order_relaxed),
          p.doing.load(std::memory_order_relaxed)};
}

std::string describe(int64_t step, int64_t layer, const std::string& doing) {
  std::string text = step < 0 ? "" : fmt::format("step {}", step + 1);
  if (layer >= 0) text += fmt::format("{}layer {}", text.empty() ? "" : ", ", layer);
  if (!doing.empty()) text += (text.empty() ? "" : ", ") + doing;
  return text;
}

void Seat::enter(int channel, const Place& place) {
  step.store(place.step, std::memory_order_relaxed);
  layer.store(place.layer, std::memory_order_relaxed);
  store(doing, place.doing);
  entered[static_cast<size_t>(channel)].fetch_add(1, std::memory_order_release);
}

void Seat::beat() {
  beat_ns.store(now_ns(), std::memory_order_relaxed);
}

double Seat::seconds_since_beat() const {
  return static_cast<double>(now_ns() - beat_ns.load(std::memory_order_relaxed)) * 1e-9;
}

std::string Seat::last_seen() const {
  return describe(step.load(std::memory_order_relaxed), layer.load(std::memory_order_relaxed), load(doing));
}

MpiBoard::MpiBoard(MPI_Comm host) {
  int size = 0, rank = 0, world_rank = 0;
  MPI_Comm_size(host, &size);
  MPI_Comm_rank(host, &rank);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  world_ranks_.resize(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(&world_rank, 1, MPI_INT, world_ranks_.data(), 1, MPI_INT, host), "MPI_Allgather");
  // One seat more than needed, because a rank's memory begins where MPI likes, and a seat on a cache line.
  void* memory = nullptr;
  check_mpi(MPI_Win_allocate_shared(2 * sizeof(Seat), 1, MPI_INFO_NULL, host, static_cast<void*>(&memory), &window_),
            "MPI_Win_allocate_shared (shared memory among the ranks of this host)");
  const auto seat_in = [](void* begin) {
    const auto at = reinterpret_cast<uintptr_t>(begin);
    return reinterpret_cast<Seat*>(at + (alignof(Seat) - at % alignof(Seat)) % alignof(Seat));
  };
  for (int p = 0; p < size; ++p) {
    MPI_Aint bytes = 0;
    int unit = 0;
    void* theirs = nullptr;
    check_mpi(MPI_Win_shared_query(window_, p, &bytes, &unit, static_cast<void*>(&theirs)), "MPI_Win_shared_query");
    seats_.push_back(seat_in(theirs));
  }
  mine_ = new (seats_[static_cast<size_t>(rank)]) Seat{};
  mine_->step = mine_->layer = -1;
  store(mine_->doing, "set-up");
  mine_->beat();
  check_mpi(MPI_Barrier(host), "MPI_Barrier");
}

MpiBoard::~MpiBoard() {
  MPI_Win_free(&window_);
}

const Seat* MpiBoard::of(int world_rank) const {
  const auto found = std::find(world_ranks_.begin(), world_ranks_.end(), world_rank);
  return found == world_ranks_.end() ? nullptr : seats_[static_cast<size_t>(found - world_ranks_.begin())];
}

bool MpiBoard::first_to_report() const {
  return seats_.front()->reports.fetch_add(1) == 0;
}

bool MpiBoard::reported() const {
  return seats_.front()->reports > 0;
}

}  // namespace strand
