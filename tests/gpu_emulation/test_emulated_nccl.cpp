// The emulated NCCL when something goes wrong: a rank that dies, and an error that shows only later. A rank is a
// process of its own.
#include <cuda_runtime.h>
#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "gpu_emulation/control.h"
#include "tests/catch.h"

namespace {

/// A rank's communicator, its stream, and a number on its GPU.
struct Rank {
  int rank;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  float* number = nullptr;

  Rank(const ncclUniqueId& id, int ranks, int my_rank) : rank(my_rank) {
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    void* memory = nullptr;
    cudaMalloc(&memory, sizeof(float));
    number = static_cast<float*>(memory);
    const float value = static_cast<float>(my_rank + 1);
    cudaMemcpyAsync(number, &value, sizeof value, cudaMemcpyHostToDevice, stream);
    cudaStreamSynchronize(stream);
    ncclCommInitRank(&comm, ranks, id, my_rank);
  }
  void add_up() { ncclAllReduce(number, number, 1, ncclFloat, ncclSum, comm, stream); }
  float value() {
    float host = 0;
    cudaMemcpyAsync(&host, number, sizeof host, cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    return host;
  }
  ncclResult_t state() {
    ncclResult_t result = ncclSuccess;
    ncclCommGetAsyncError(comm, &result);
    return result;
  }
  /// Polls, as a watchdog does; what it was waited for.
  ncclResult_t wait_for_an_error() {
    for (int i = 0; i < 10000; ++i) {
      if (const ncclResult_t now = state(); now != ncclSuccess) return now;
      usleep(1000);
    }
    return ncclSuccess;
  }
};

/// Runs `body` as each of two ranks, and gives what their processes ended with.
template <typename Body>
std::vector<int> on_two_ranks(const Body& body) {
  ncclUniqueId id{};
  ncclGetUniqueId(&id);
  std::vector<pid_t> processes;
  for (int r = 0; r < 2; ++r) {
    const pid_t child = fork();
    if (child == 0) {
      Rank rank(id, 2, r);
      _exit(body(rank) ? 0 : 1);
    }
    processes.push_back(child);
  }
  std::vector<int> statuses;
  for (const pid_t process : processes) {
    int status = 0;
    waitpid(process, &status, 0);
    statuses.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  }
  return statuses;
}

/// Whether ranks 0 and 1 add up to 3 without an error, by two operations. Behind the second one, both have looked:
/// what a rank does from then on, its end too, is no error of this.
bool adds_up_well(Rank& rank) {
  rank.add_up();
  const bool well = rank.value() == 3 && rank.state() == ncclSuccess && gpu_emulation::take_reports().empty();
  rank.add_up();
  return rank.value() == 6 && well;
}

}  // namespace

TEST_CASE("ranks that are well see no error") {
  CHECK(on_two_ranks(adds_up_well) == std::vector<int>{0, 0});
}

// Without the abort, the wait for the stream would never end.
TEST_CASE("a rank that dies is a remote error of the others, and an abort ends what waits for it") {
  CHECK(on_two_ranks([](Rank& rank) {
          rank.add_up();
          if (rank.value() != 3) return false;
          if (rank.rank == 1) raise(SIGKILL);
          rank.add_up();
          if (rank.wait_for_an_error() != ncclRemoteError) return false;
          ncclCommAbort(rank.comm);
          return cudaStreamSynchronize(rank.stream) == cudaSuccess;
        }) == std::vector<int>{0, -SIGKILL});
}

TEST_CASE("a rank that leaves in order is not taken for one that died") {
  CHECK(on_two_ranks([](Rank& rank) {
          rank.add_up();
          if (rank.value() != 3) return false;
          if (rank.rank == 1) {
            ncclCommDestroy(rank.comm);
            return true;
          }
          usleep(50000);
          return rank.state() == ncclSuccess;
        }) == std::vector<int>{0, 0});
}

TEST_CASE("an asynchronous error shows after its call, and what is enqueued behind it waits until an abort") {
  CHECK(on_two_ranks([](Rank& rank) {
          if (rank.rank == 0) gpu_emulation::order_fault("ncclAllReduce:3:nccl");
          if (!adds_up_well(rank)) return false;
          rank.add_up();
          rank.add_up();
          // The other rank has no error before the process of the first has ended.
          if (rank.wait_for_an_error() != (rank.rank == 0 ? ncclSystemError : ncclRemoteError)) return false;
          ncclCommAbort(rank.comm);
          return cudaStreamSynchronize(rank.stream) == cudaSuccess;
        }) == std::vector<int>{0, 0});
}
