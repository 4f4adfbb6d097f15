#include "parallel/mpi_processes.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "parallel/mpi_communicator.h"
#include "parallel/mpi_error.h"

namespace strand {

namespace {
struct GridGroups {
  MpiGroup experts, replicas;
};

void initialize_mpi() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    fail("MPI_Init_thread failed: was this process started by the mpirun of the MPI that strand was built with?");
  require(provided >= MPI_THREAD_SERIALIZED,
          "this MPI gives thread level {}; strand has a communication thread and needs MPI_THREAD_SERIALIZED",
          provided);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
}

int rank_in(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

int size_of_comm(MPI_Comm comm) {
  int size = 0;
  MPI_Comm_size(comm, &size);
  return size;
}

MPI_Comm ranks_of_this_host() {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  return host;
}

/// 0 when the system does not tell: the daemon may be another user's.
int cores_of_daemon() {
  try {
    return affinity_of(getppid()).count();
  } catch (const Error&) {
    return 0;
  }
}

/// The launcher's daemon, this process's parent, is bound to nothing: it may use all that a launcher can give here.
CoreShare shares_of_cores(MPI_Comm host) {
  const CpuSet mine = affinity_of(0);
  CoreShare share{.usable = mine.count(),
                  .sharing = 0,
                  .host_cores = std::max(mine.count(), cores_of_daemon()),
                  .local_ranks = size_of_comm(host),
                  .quota = quota_cores(),
                  .environment = environment_threads()};
  const size_t words = mine.bits.size();
  std::vector<unsigned long> all(words * static_cast<size_t>(share.local_ranks));
  check_mpi(MPI_Allgather(mine.bits.data(), static_cast<int>(words), MPI_UNSIGNED_LONG, all.data(),
                          static_cast<int>(words), MPI_UNSIGNED_LONG, host),
            "MPI_Allgather");
  for (auto theirs = all.begin(); theirs != all.end(); theirs += static_cast<std::ptrdiff_t>(words))
    share.sharing += std::equal(mine.bits.begin(), mine.bits.end(), theirs);
  return share;
}

/// The ranks of equal `color`, in the world's order. Collective over the world.
MpiGroup split_world(const char* name, int index, int color) {
  MpiGroup group{.name = name, .index = index};
  for (MPI_Comm& comm : group.comm)
    check_mpi(MPI_Comm_split(MPI_COMM_WORLD, color, rank_in(MPI_COMM_WORLD), &comm), "MPI_Comm_split");
  group.rank = rank_in(group.comm[0]);
  group.ranks.resize(static_cast<size_t>(size_of_comm(group.comm[0])));
  const int mine = rank_in(MPI_COMM_WORLD);
  check_mpi(MPI_Allgather(&mine, 1, MPI_INT, group.ranks.data(), 1, MPI_INT, group.comm[0]), "MPI_Allgather");
  return group;
}

/// MPI between its first call and its last.
struct MpiSession {
  MpiSession() { initialize_mpi(); }
  ~MpiSession() { MPI_Finalize(); }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

class MpiProcesses final : public Processes {
 public:
  explicit MpiProcesses(std::function<int()> told_to_end)
      : host_(ranks_of_this_host()),
        cores_(shares_of_cores(host_)),
        board_(host_),
        world_(split_world("all ranks", 0, 0)),
        transport_(world_.rank, world_.size(), board_, std::move(told_to_end)) {}

  int rank() const override { return world_.rank; }
  int size() const override { return world_.size(); }
  int local_ranks() const override { return cores_.local_ranks; }
  int local_rank() const override { return rank_in(host_); }
  std::unique_ptr<ProcessGrid> grid(int64_t expert_parallel, double watchdog_seconds) override;

 protected:
  CoreShare cores() const override { return cores_; }
  void end_all_ranks(int code) override { transport_.abort(code); }

 private:
  const GridGroups& groups(int expert_parallel);

  MpiSession session_;  // the first to be built and the last to go
  MPI_Comm host_;
  CoreShare cores_;
  MpiBoard board_;
  MpiGroup world_;
  std::map<int, GridGroups> groups_;  // by EP; made once, for the life of the process
  MpiTransport transport_;
};

const GridGroups& MpiProcesses::groups(int expert_parallel) {
  const auto found = groups_.find(expert_parallel);
  if (found != groups_.end()) return found->second;
  GridGroups made;
  transport_.call([&] {
    const GridShape shape{size(), expert_parallel, rank()};
    made.experts = split_world("experts group", 1, shape.replica_rank());
    made.replicas = split_world("replicas group", 2, shape.expert_rank());
  });
  return groups_.emplace(expert_parallel, std::move(made)).first->second;
}

std::unique_ptr<ProcessGrid> MpiProcesses::grid(int64_t expert_parallel, double watchdog_seconds) {
  transport_.watchdog(watchdog_seconds);
  std::vector<MpiCommunicator*> made;
  const auto communicator = [&](const MpiGroup& group) -> std::unique_ptr<Communicator> {
    if (group.size() == 1) return std::make_unique<SelfCommunicator>();
    auto c = std::make_unique<MpiCommunicator>(transport_, group);
    c->warm_up();
    made.push_back(c.get());
    return c;
  };
  std::unique_ptr<ControlChannel> control = std::make_unique<SelfControl>();
  MpiControl* made_control = nullptr;
  if (size() > 1) {
    auto c = std::make_unique<MpiControl>(transport_, world_);
    made_control = c.get();
    control = std::move(c);
  }
  auto world = communicator(world_);
  const std::vector<int64_t> asked = control->all_gather(expert_parallel);
  for (size_t p = 1; p < asked.size(); ++p)
    require(asked[p] == asked[0], "rank {} was started with expert_parallel {}, but rank 0 with {}", p, asked[p],
            asked[0]);
  require_grid(size(), expert_parallel);
  const GridGroups& g = groups(static_cast<int>(expert_parallel));
  auto experts = communicator(g.experts);
  auto replicas = communicator(g.replicas);
  auto grid =
      std::make_unique<ProcessGrid>(std::move(control), std::move(world), std::move(experts), std::move(replicas));
  for (MpiCommunicator* c : made) c->follow(grid->progress());
  if (made_control != nullptr) made_control->follow(grid->progress());
  return grid;
}
}  // namespace

std::unique_ptr<Processes> start_mpi(std::function<int()> told_to_end) {
  return std::make_unique<MpiProcesses>(std::move(told_to_end));
}

}  // namespace strand
