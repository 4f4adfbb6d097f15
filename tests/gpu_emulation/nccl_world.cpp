#include "gpu_emulation/nccl_world.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace gpu_emulation {

namespace {
constexpr size_t header_bytes = (sizeof(WorldHeader) + 4095) / 4096 * 4096;
constexpr size_t world_bytes = header_bytes + (most_ranks + most_ranks * most_ranks) * mailbox_bytes;

[[noreturn]] void end(const char* what) {
  std::perror(what);
  std::abort();
}
}  // namespace

World::World(const std::string& name, int ranks, int rank) : name_(name), ranks_(ranks), rank_(rank) {
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0) end("GPU emulation: shared memory for NCCL");
  // A new file is all zeros, which is how every number in it begins.
  if (ftruncate(file, static_cast<off_t>(world_bytes)) != 0) end("GPU emulation: shared memory for NCCL");
  void* memory = mmap(nullptr, world_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (memory == MAP_FAILED) end("GPU emulation: addresses for NCCL");
  close(file);
  header_ = static_cast<WorldHeader*>(memory);
  data_ = static_cast<char*>(memory) + header_bytes;
  header_->process[rank] = getpid();
  ++header_->joined;
  while (header_->joined < ranks) usleep(100);
  for (int p = 0; p < ranks; ++p) {
    // (<sys/pidfd.h> of glibc 2.36 is not for C++.)
    processes_[p] = static_cast<int>(syscall(SYS_pidfd_open, header_->process[p].load(), 0));
    if (processes_[p] < 0) end("GPU emulation: another rank's process");
  }
  shm_unlink(name.c_str());  // everybody has it: it goes when the last process ends
}

World::~World() {
  for (int p = 0; p < ranks_; ++p) close(processes_[p]);
  header_->process[rank_] = 0;
  munmap(header_, world_bytes);
}

bool World::somebody_died() const {
  for (int p = 0; p < ranks_; ++p) {
    pollfd process{processes_[p], POLLIN, 0};  // readable when the process has ended, whether anybody knows or not
    if (header_->process[p] != 0 && poll(&process, 1, 0) == 1) return true;
  }
  return false;
}

}  // namespace gpu_emulation
