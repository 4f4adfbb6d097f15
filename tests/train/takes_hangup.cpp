// Takes SIGHUP as soon as it is loaded, as UCX does, which MPI may bring along.
#include <signal.h>
#include <unistd.h>

namespace {
extern "C" void on_hangup(int) {
  _exit(99);
}

__attribute__((constructor)) void take() {
  signal(SIGHUP, on_hangup);
}
}  // namespace
