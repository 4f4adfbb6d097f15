#include "parallel/launch.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/cores.h"
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
  int local_rank() const override { return 0; }

  std::unique_ptr<ProcessGrid> grid(int64_t expert_parallel, double) override {
    require(expert_parallel == 1,
            "expert_parallel {}: this is one process; experts spread over processes need that many (mpirun -n {} "
            "strand ...)",
            expert_parallel, expert_parallel);
    return std::make_unique<ProcessGrid>();
  }

 protected:
  CoreShare cores() const override {
    const int usable = affinity_of(0).count();
    return {.usable = usable, .host_cores = usable, .quota = quota_cores(), .environment = environment_threads()};
  }
  void end_all_ranks(int) override {}
};

/// A launcher's own variables.
struct Family {
  const char *name, *rank, *size;
};
constexpr Family open_mpi{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"};
constexpr Family pmix{"a PMIx launcher", "PMIX_RANK", nullptr};
constexpr Family pmi{"a PMI launcher (MPICH's mpiexec)", "PMI_RANK", "PMI_SIZE"};
constexpr Family others[] = {{"MVAPICH2's launcher", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
                             {"jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"},
                             {"aprun", "ALPS_APP_PE", nullptr}};
constexpr Family torchrun{"torchrun", "RANK", "WORLD_SIZE"};  // where TORCHELASTIC_RUN_ID says that it is

using Variables = std::function<const char*(const char*)>;

/// `missing` when there is no such variable, or no name of one.
int number(const Variables& variable, const char* name, int missing) {
  const char* text = name == nullptr ? nullptr : variable(name);
  if (text == nullptr) return missing;
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  require(error == std::errc() && stop == end && value >= 0,
          "{}={} in the environment is no number that a launcher sets; unset it", name, text);
  return value;
}

bool is_present(const Variables& variable, const Family& f) {
  return variable(f.rank) != nullptr || (f.size != nullptr && variable(f.size) != nullptr);
}

Launcher launcher_of(const Variables& variable, const Family& f) {
  Launcher launcher{f.name, number(variable, f.size, 0), number(variable, f.rank, -1), ""};
  for (const char* name : {f.rank, f.size})
    if (const char* text = name == nullptr ? nullptr : variable(name))
      launcher.said += fmt::format("{}{}={}", launcher.said.empty() ? "" : " ", name, text);
  return launcher;
}

#ifndef STRAND_MPI
[[noreturn]] void refuse(const Launcher& launcher) {
  fail(
      "{}: started by {} as one of {} processes, but this strand was built without MPI: install libopenmpi-dev and "
      "openmpi-bin, and configure with -DSTRAND_MPI=ON",
      launcher.said, launcher.name, launcher.size > 0 ? std::to_string(launcher.size) : "several");
}
#endif
}  // namespace

Launcher Launcher::of(const std::function<const char*(const char*)>& variable) {
  const int tasks = number(variable, "SLURM_STEP_NUM_TASKS", 0);
  // A job's own launcher hands its variables on to the one that runs in it, so the order matters.
  if (is_present(variable, open_mpi)) return launcher_of(variable, open_mpi);
  for (const Family& family : {pmix, pmi}) {
    if (!is_present(variable, family)) continue;
    Launcher launcher = launcher_of(variable, family);
    if (tasks == 0) return launcher;
    launcher.name = "srun";
    if (launcher.size == 0) {
      launcher.size = tasks;
      launcher.said += fmt::format(" SLURM_STEP_NUM_TASKS={}", tasks);
    }
    return launcher;
  }
  for (const Family& family : others)
    if (is_present(variable, family)) return launcher_of(variable, family);
  if (variable("TORCHELASTIC_RUN_ID") != nullptr && is_present(variable, torchrun))
    return launcher_of(variable, torchrun);
  require(tasks <= 1,
          "Slurm started {} tasks that know nothing of each other: use `srun --mpi=pmix` (`srun --mpi=list` shows what "
          "there is)",
          tasks);
  return {};
}

void Launcher::require_agreement(int mpi_rank, int mpi_size) const {
  const bool same_size = size == mpi_size || (size == 0 && mpi_size > 1);
  if (same_size && (rank == -1 || rank == mpi_rank)) return;
  fail(
      "{} in the environment: {} started process {}{}, but for strand's MPI this is process {} of {}. Start strand "
      "with "
      "the mpirun of the MPI that it was built with (or srun --mpi=pmix); where no launcher is meant, unset what is "
      "left "
      "of one",
      said, name, rank >= 0 ? std::to_string(rank) : "?", size > 0 ? fmt::format(" of {}", size) : "", mpi_rank,
      mpi_size);
}

int CoreShare::threads() const {
  const int by_affinity = usable / std::max(1, sharing), by_quota = quota / std::max(1, local_ranks);
  return std::max(1, std::min({by_affinity, by_quota, environment}));
}

bool CoreShare::bound_too_tightly() const {
  const int others_would_get = host_cores / std::max(1, local_ranks);
  return usable < host_cores && usable / std::max(1, sharing) < others_would_get && threads() < quota &&
         threads() < environment;
}

std::unique_ptr<Processes> Processes::alone() {
  return std::make_unique<OneProcess>();
}

std::unique_ptr<Processes> Processes::start([[maybe_unused]] std::function<int()> told_to_end) {
  const Launcher launcher = Launcher::of([](const char* name) { return std::getenv(name); });
  if (launcher.alone()) return alone();
#ifdef STRAND_MPI
  std::unique_ptr<Processes> processes = start_mpi(std::move(told_to_end));
  launcher.require_agreement(processes->rank(), processes->size());
  return processes;
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
