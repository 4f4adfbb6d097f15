#include "parallel/launch.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <vector>

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
                             {"mpirun_rsh", "MPIRUN_RANK", "MPIRUN_NPROCS"},
                             {"jsrun", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"},
                             {"aprun", "ALPS_APP_PE", nullptr},
                             {"Flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"},
                             {"Cray's PALS", "PALS_RANKID", nullptr},
                             {"Horovod's launcher", "HOROVOD_RANK", "HOROVOD_SIZE"},
                             {"HTCondor", "_CONDOR_PROCNO", "_CONDOR_NPROCS"},
                             // Hydra counts the processes of the host here, where the variables of PMI were taken away.
                             {"Hydra (MPICH's mpiexec)", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}};
/// Of torchrun, DeepSpeed and others. The names alone may mean anything, so another variable of theirs has to be there.
constexpr Family pytorch{"a launcher of PyTorch", "RANK", "WORLD_SIZE"};
constexpr const char* marks_of_pytorch[] = {"TORCHELASTIC_RUN_ID", "MASTER_ADDR"};

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

/// Slurm's srun hands the variables of PMIx or PMI on, and says itself how many tasks there are (0 = none said).
Launcher with_tasks_of_slurm(Launcher launcher, int tasks) {
  if (tasks == 0) return launcher;
  launcher.name = "srun";
  if (launcher.size == 0) {
    launcher.size = tasks;
    launcher.said += fmt::format(" SLURM_STEP_NUM_TASKS={}", tasks);
  }
  return launcher;
}

/// What each launcher says whose variables are there. A job's own launcher hands its variables on to the one that runs
/// in it, so the order matters. Open MPI sets the variables of PMIx too.
std::vector<Launcher> launchers_of(const Variables& variable, int tasks) {
  std::vector<Launcher> found;
  if (is_present(variable, open_mpi))
    found.push_back(launcher_of(variable, open_mpi));
  else if (is_present(variable, pmix))
    found.push_back(with_tasks_of_slurm(launcher_of(variable, pmix), tasks));
  if (is_present(variable, pmi)) found.push_back(with_tasks_of_slurm(launcher_of(variable, pmi), tasks));
  for (const Family& family : others)
    if (is_present(variable, family)) found.push_back(launcher_of(variable, family));
  const bool of_pytorch = std::any_of(std::begin(marks_of_pytorch), std::end(marks_of_pytorch),
                                      [&](const char* mark) { return variable(mark) != nullptr; });
  if (of_pytorch && is_present(variable, pytorch)) found.push_back(launcher_of(variable, pytorch));
  return found;
}

/// The first one; but where it says that this process is alone, one that knows of several.
Launcher most_of(const std::vector<Launcher>& found) {
  const auto of_several =
      std::find_if(found.begin(), found.end(), [](const Launcher& launcher) { return launcher.size > 1; });
  return found.front().alone() && of_several != found.end() ? *of_several : found.front();
}
}  // namespace

Launcher Launcher::of(const std::function<const char*(const char*)>& variable) {
  const int tasks = number(variable, "SLURM_STEP_NUM_TASKS", 0);
  const std::vector<Launcher> found = launchers_of(variable, tasks);
  if (found.empty()) {
    require(tasks <= 1,
            "Slurm started {} tasks that know nothing of each other: use `srun --mpi=pmix` (`srun --mpi=list` shows "
            "what there is)",
            tasks);
    return {};
  }
  Launcher launcher = most_of(found);
  require(launcher.size == 0 || launcher.rank < launcher.size,
          "{} in the environment: processes of {} are counted from 0, so there is no process {}; unset what is left of "
          "a launcher",
          launcher.said, launcher.size, launcher.rank);
  return launcher;
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
