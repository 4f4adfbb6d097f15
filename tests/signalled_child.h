#pragma once
// For tests of what a process leaves behind when a signal ends it.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <exception>

#include "tests/catch.h"

namespace strand_test {

/// Runs `action` in a child process in which every signal has its default action; returns the signal that ended it, or
/// 0 when none did.
template <typename Action>
int signal_that_ends(const Action& action) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (int signal = 1; signal < SIGRTMIN; ++signal) std::signal(signal, SIG_DFL);
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    try {
      action();
    } catch (const std::exception&) {
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace strand_test
