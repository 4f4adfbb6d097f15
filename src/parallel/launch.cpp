#include "parallel/launch.h"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/log.h"
#include "parallel/mpi_processes.h"

namespace strand {

namespace {
class OneProcess final : public Processes {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_ranks() const override { return 1; }

  std::unique_ptr<ProcessGrid> grid(int64_t expert_parallel, double) override {
    require(expert_parallel == 1,
            "expert_parallel {}: this is one process; experts spread over processes need that many (mpirun -n {} "
            "strand ...)",
            expert_parallel, expert_parallel);
    return std::make_unique<ProcessGrid>();
  }

 protected:
  CoreShare cores() const override {
    cpu_set_t set;
    const int usable = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return {.usable = usable, .host_cores = usable};
  }
  void end_all_ranks(int) override {}
};

int number(const char* text) {
  return text == nullptr ? 0 : std::atoi(text);
}

#ifndef STRAND_MPI
[[noreturn]] void refuse(const Launcher& launcher) {
  fail(
      "started by {} as one of {} processes, but this strand was built without MPI: install libopenmpi-dev and "
      "openmpi-bin, and configure with -DSTRAND_MPI=ON",
      launcher.name, launcher.size > 0 ? std::to_string(launcher.size) : "several");
}
#endif
}  // namespace

Launcher Launcher::of(const std::function<const char*(const char*)>& variable) {
  const int tasks = number(variable("SLURM_STEP_NUM_TASKS"));
  if (const char* size = variable("OMPI_COMM_WORLD_SIZE")) return {"mpirun", number(size)};
  if (variable("PMIX_RANK") != nullptr) return {tasks > 0 ? "srun" : "a PMIx launcher", tasks};
  if (variable("PMI_RANK") != nullptr) return {tasks > 0 ? "srun" : "a PMI launcher", number(variable("PMI_SIZE"))};
  require(tasks <= 1,
          "Slurm started {} tasks that know nothing of each other: use `srun --mpi=pmix` (`srun --mpi=list` shows what "
          "there is)",
          tasks);
  return {};
}

int CoreShare::threads() const {
  return std::max(1, usable / std::max(1, sharing));
}

bool CoreShare::bound_too_tightly() const {
  return usable < host_cores && threads() < host_cores / std::max(1, local_ranks);
}

std::unique_ptr<Processes> Processes::alone() {
  return std::make_unique<OneProcess>();
}

std::unique_ptr<Processes> Processes::start([[maybe_unused]] std::function<int()> told_to_end) {
  const Launcher launcher = Launcher::of([](const char* name) { return std::getenv(name); });
  if (launcher.alone()) return alone();
#ifdef STRAND_MPI
  return start_mpi(std::move(told_to_end));
#else
  refuse(launcher);
#endif
}

void Processes::abort(int code) {
  std::fflush(nullptr);
  end_all_ranks(code);
  std::_Exit(code);
}

int Processes::threads_for(int asked) const {
  if (asked > 0) return asked;
  const CoreShare share = cores();
  if (rank() == 0 && share.bound_too_tightly())
    log_warning(fmt::format(
        "the launcher bound this process to {} of the host's {} cores, for {} of its processes there: {} threads each; "
        "`mpirun --bind-to none` or --map-by slot:PE={} gives more",
        share.usable, share.host_cores, share.local_ranks, share.threads(), share.host_cores / share.local_ranks));
  return share.threads();
}

}  // namespace strand
