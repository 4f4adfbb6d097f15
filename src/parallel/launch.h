#pragma once
// The processes of a run, as a launcher (mpirun, srun) started them: who this one is among them, the grid they form,
// and how all of them end. Without a launcher there is one process, and it calls no MPI at all.
#include <functional>
#include <memory>
#include <string>

#include "core/cores.h"
#include "parallel/process_grid.h"

namespace strand {

/// What the environment says about who started this process.
struct Launcher {
  std::string name;  ///< "mpirun", "srun"; "" = nobody
  int size = 1;      ///< processes of the run; 0 = a launcher that does not say
  int rank = -1;     ///< of this process; -1 = it does not say
  std::string said;  ///< the variables that say it: "PMI_RANK=0 PMI_SIZE=2"

  bool alone() const { return size == 1; }
  /// Throws Error unless MPI sees the processes that the launcher started. An MPI that does not know the launcher makes
  /// each of them a run of its own.
  void require_agreement(int mpi_rank, int mpi_size) const;
  /// `variable` is std::getenv, or a test's. Throws Error for several tasks of Slurm that were not told of each other,
  /// and for a variable of a launcher that is no number.
  static Launcher of(const std::function<const char*(const char*)>& variable);
};

/// The cores of a process, and those of the other processes on its host.
struct CoreShare {
  int usable = 1;              ///< cores this process may run on
  int sharing = 1;             ///< processes of this run that may run on the same ones, this one included
  int host_cores = 1;          ///< cores that the launcher had to give on this host
  int local_ranks = 1;         ///< processes of this run on this host
  int quota = no_limit;        ///< cores' worth of time that all processes of this run on this host have together
  int environment = no_limit;  ///< threads of a process at most, by OpenMP's variables

  int threads() const;
  /// The launcher bound processes to fewer cores than there are for each.
  bool bound_too_tightly() const;
};

class Processes {
 public:
  /// One process, whatever the environment says.
  static std::unique_ptr<Processes> alone();
  /// Joins the others of the launcher's run; the environment alone decides whether there are any. `told_to_end` says
  /// which signal asked this process to end, 0 = none; any thread may call it. Throws Error when there is a launcher
  /// but no MPI in this build.
  static std::unique_ptr<Processes> start(std::function<int()> told_to_end = [] { return 0; });

  /// Ends MPI. Every rank destroys this object, after everything that it gave.
  virtual ~Processes() = default;
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_ranks() const = 0;  ///< of them on this host
  virtual int local_rank() const = 0;   ///< of this one among those

  /// All of them as a grid, its communicators warmed up; the same calls on every rank. A collective that is not
  /// complete after `watchdog_seconds` ends all ranks. Throws Error on every rank when expert_parallel does not divide
  /// size(), or ranks ask for different ones.
  virtual std::unique_ptr<ProcessGrid> grid(int64_t expert_parallel, double watchdog_seconds) = 0;

  /// `asked` when above 0, otherwise this process's share of the cores it may use (core/cores.h). Warns, on rank 0,
  /// when a launcher left it few of the host's.
  int threads_for(int asked) const;

  /// Ends all ranks with this exit code, from any state.
  [[noreturn]] void abort(int code);

 protected:
  Processes() = default;
  virtual CoreShare cores() const = 0;
  virtual void end_all_ranks(int code) = 0;
};

}  // namespace strand
