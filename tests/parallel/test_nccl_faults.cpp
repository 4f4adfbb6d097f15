// What becomes of a rank whose collective over NCCL cannot end, on emulated GPUs: the other rank has died, or does not
// come. Ranks are processes that this test forks; the one that is left must say where it was, abort its communicators
// (or it would wait for ever) and end the run.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "parallel/nccl_communicator.h"
#include "tests/catch.h"

namespace strand {
namespace {

/// The messages of two hosts, over a pair of sockets.
class PairControl final : public ControlChannel {
 public:
  PairControl(int rank, int socket) : ControlChannel(rank, 2), socket_(socket) {}

 private:
  double gather_bytes(const void* mine, size_t bytes, void* all) override {
    auto* to = static_cast<char*>(all);
    std::copy_n(static_cast<const char*>(mine), bytes, to + static_cast<size_t>(rank()) * bytes);
    require(send(socket_, mine, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes), "a send failed");
    require(
        recv(socket_, to + static_cast<size_t>(1 - rank()) * bytes, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes),
        "a receive failed");
    return 0;
  }

  int socket_;
};

/// What the other rank does instead of the second sum.
enum class Other {
  dies,      ///< at once; this one does not wait for that
  has_died,  ///< before this one begins the sum
  does_not_come
};

constexpr int ended_by_watchdog = 41, came_back = 42;

/// One rank's life: a sum that both take, and one that only rank 0 begins. Never returns.
[[noreturn]] void live(int rank, int socket, Other other) {
  Progress progress;
  progress.step = 6;
  progress.now("backward", 3);
  std::atomic<int> code{0};
  const auto watchdog =
      std::make_shared<NcclWatchdog>(rank, progress,
                                     DeviceGridOptions{.watchdog_seconds = other == Other::does_not_come ? 1.0 : 600.0,
                                                       .end_all_ranks = [&](int exit_code) { code = exit_code; }});
  CudaDevice device({});
  PairControl hosts(rank, socket);
  NcclCommunicator group(device, {.size = 2, .rank = rank, .first = 0}, hosts, SumOrder::of_library, watchdog);
  const DeviceMemory memory(device, MemoryKind::device, 1024);
  const Tensor x = memory.tensor(DType::f32, {256});
  const std::vector<float> ones(256, 1.0f);
  device.upload(ones.data(), x);
  group.all_reduce_sum(Traffic::gradients, x);
  device.synchronize();
  if (rank == 1 && other != Other::does_not_come) _exit(0);
  if (rank == 1)
    while (true) pause();
  if (other == Other::has_died) {
    char nothing;
    while (recv(socket, &nothing, 1, 0) > 0) continue;  // the other end is closed by the death of its process
    usleep(20000);                                      // until this process's parent has seen that, too
  }
  group.all_reduce_sum(Traffic::gradients, x);
  device.synchronize();
  while (code == 0) std::this_thread::yield();
  _exit(code == 1 ? ended_by_watchdog : came_back);
}

pid_t start(int rank, const int (&sockets)[2], Other other, const std::string& errors) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  close(sockets[1 - rank]);
  if (rank == 0 && std::freopen(errors.c_str(), "w", stderr) == nullptr) _exit(1);
  try {
    live(rank, sockets[rank], other);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    std::fflush(stderr);  // into a file, it waits in a buffer
  }
  _exit(1);
}

/// What rank 0 said, when the other one is not there.
std::string said_when(Other other) {
  const std::string errors =
      (std::filesystem::temp_directory_path() / fmt::format("strand_nccl_{}", getpid())).string();
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  const pid_t left = start(0, sockets, other, errors), gone = start(1, sockets, other, errors);
  close(sockets[0]);
  close(sockets[1]);
  int status = 0;
  if (other != Other::does_not_come) REQUIRE(waitpid(gone, &status, 0) == gone);  // or it would be there, as a zombie
  REQUIRE(waitpid(left, &status, 0) == left);
  if (other == Other::does_not_come) {
    kill(gone, SIGKILL);
    int ignored = 0;
    waitpid(gone, &ignored, 0);
  }
  std::stringstream text;
  text << std::ifstream(errors).rdbuf();
  std::filesystem::remove(errors);
  INFO(text.str());
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == ended_by_watchdog);
  return text.str();
}

TEST_CASE("A rank that dies ends the others, which say where they were") {
  const std::string said = said_when(GENERATE(Other::dies, Other::has_died));
  CHECK_THAT(said, Catch::Contains("rank 0: NCCL reports: remote process exited"));
  CHECK_THAT(said, Catch::Contains("(step 7, layer 3, backward)"));
}

TEST_CASE("A rank that does not come to a collective ends the others, which say where they were") {
  const std::string said = said_when(Other::does_not_come);
  CHECK_THAT(said, Catch::Contains("rank 0: a collective on GPUs (gradients, step 7, layer 3) has not ended for"));
}

}  // namespace
}  // namespace strand
