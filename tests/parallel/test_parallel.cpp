// What needs no second process: groups and counts on paper, what the environment says of a launcher, shares of cores,
// and how ranks that differ are told so.
#include <map>

#include "core/error.h"
#include "parallel/agreement.h"
#include "parallel/launch.h"
#include "tests/catch.h"

namespace strand {
namespace {

// ---- counts, against the formulas of communicator.h worked by hand --------------------------------------------------

/// An address whose memory nobody touches.
Tensor paper(DType type, Shape shape) {
  static int64_t somewhere = 0;
  return {&somewhere, type, shape};
}

void check_booked(const TrafficCounts& traffic, Traffic kind, int64_t messages, double payload, double sent) {
  const TrafficCounts::Kind& k = traffic[kind];
  CHECK(k.calls == 1);
  CHECK(k.messages == messages);
  CHECK(k.payload_bytes == payload);
  CHECK(k.sent_bytes == sent);
}

TEST_CASE("A counting communicator books messages and bytes by the stated algorithms") {
  CountingCommunicator c(1, 4);
  c.all_reduce_sum(Traffic::statistics, paper(DType::f32, {16384}));  // 64 KiB: the largest that is small
  check_booked(c.traffic(), Traffic::statistics, 3, 65536, 3 * 65536.0);
  c.all_reduce_sum(Traffic::gradients, paper(DType::f32, {16385}));  // 3/4 of 65540 out, and again to all
  check_booked(c.traffic(), Traffic::gradients, 6, 65540, 2 * 49155.0);
  Communicator::Work work = c.begin_all_gather(Traffic::weights, paper(DType::bf16, {8, 100}));
  c.wait(work);
  CHECK(!work);
  check_booked(c.traffic(), Traffic::weights, 3, 1600, 1200);
}

TEST_CASE("A reduce-scatter that travels as bf16 moves half the bytes") {
  CountingCommunicator c(0, 4);
  Communicator::Work work = c.begin_reduce_scatter_sum(Traffic::gradients, paper(DType::f32, {400}), DType::bf16);
  c.wait(work);
  check_booked(c.traffic(), Traffic::gradients, 3, 800, 600);
}

TEST_CASE("The payload of an all-to-all is of the rank's own tokens; what it sends is for others") {
  const RankRows there{paper(DType::f32, {10, 8}), {0, 2, 5}, {2, 3, 5}};  // rows of 32 bytes
  const RankRows here{paper(DType::f32, {6, 8}), {0, 1, 5}, {1, 4, 1}};
  CountingCommunicator out(1, 3), home(1, 3);
  out.all_to_all(Traffic::dispatch, OwnRows::sent, there, here);
  check_booked(out.traffic(), Traffic::dispatch, 2, 10 * 32, 7 * 32);  // 3 of the 10 stay
  home.all_to_all(Traffic::combine, OwnRows::received, here, there);
  check_booked(home.traffic(), Traffic::combine, 2, 10 * 32, 2 * 32);  // 4 of the 6 stay
}

TEST_CASE("Host numbers are booked as control, and a counting rank hears itself from everybody") {
  const auto grid = ProcessGrid::counting({3, 1, 2});
  ControlChannel& c = grid->control();
  CHECK(c.all_gather(int64_t{7}) == std::vector<int64_t>{7, 7, 7});
  check_booked(grid->traffic(), Traffic::control, 2, 8, 16);
  CHECK(c.all_reduce_sum(int64_t{5}) == 15);
  CHECK(c.all_gather(std::string("me")) == std::vector<std::string>{"me", "me", "me"});
  CHECK(grid->world().traffic().total().calls == 0);  // communicators move tensors alone
}

TEST_CASE("A group of one is complete as it begins and books nothing") {
  SelfCommunicator c;
  CHECK(!c.begin_all_reduce_sum(Traffic::gradients, paper(DType::f32, {1000})));
  CHECK(!c.begin_all_gather(Traffic::weights, paper(DType::f32, {1000})));
  CHECK(c.traffic().total().calls == 0);
  SelfControl alone;
  CHECK(alone.all_gather(std::string("me")) == std::vector<std::string>{"me"});
  CHECK(alone.traffic().calls == 0);
}

TEST_CASE("What no collective can mean is refused") {
  CountingCommunicator c(0, 4);
  CHECK_THROWS_WITH((void)c.begin_all_reduce_sum(Traffic::gradients, paper(DType::bf16, {8})),
                    Catch::Contains("neither f32 nor f64"));
  CHECK_THROWS_WITH((void)c.begin_all_gather(Traffic::weights, paper(DType::f32, {6})),
                    Catch::Contains("parts are not equal"));
  const RankRows beyond{paper(DType::f32, {2, 8}), {0, 0, 0, 1}, {0, 0, 0, 2}};
  CHECK_THROWS_WITH(c.all_to_all(Traffic::dispatch, OwnRows::sent, beyond, beyond),
                    Catch::Contains("2 rows from 1 for rank 3"));
}

// ---- grids ----------------------------------------------------------------------------------------------------------

TEST_CASE("A grid needs expert_parallel to divide the ranks") {
  CHECK_NOTHROW(require_grid(6, 3));
  CHECK_NOTHROW(require_grid(1, 1));
  CHECK_THROWS_WITH(require_grid(6, 4), Catch::Contains("4 does not divide") && Catch::Contains("6"));
  CHECK_THROWS_WITH(require_grid(2, 4), Catch::Contains("does not divide"));
  CHECK_THROWS_WITH(require_grid(4, 0), Catch::Contains("at least 1"));
}

TEST_CASE("Places in a grid of 4 ranks with experts over 2") {
  const GridShape shape{4, 2, 3};
  CHECK(shape.expert_rank() == 1);
  CHECK(shape.replica_rank() == 1);
  const auto grid = ProcessGrid::counting(shape);
  CHECK(grid->experts().size() == 2);
  CHECK(grid->replicas().size() == 2);
  CHECK(grid->rank() == 3);
}

// ---- launchers and cores --------------------------------------------------------------------------------------------

Launcher launcher_in(const std::map<std::string, std::string>& environment) {
  return Launcher::of([&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST_CASE("The environment says who started a process") {
  CHECK(launcher_in({}).alone());
  CHECK(launcher_in({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}}).alone());  // inside a batch script
  CHECK(launcher_in({{"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "0"}}).size == 4);
  CHECK(launcher_in({{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}}).alone());
  const Launcher srun = launcher_in({{"PMIX_RANK", "3"}, {"SLURM_STEP_NUM_TASKS", "8"}});
  CHECK(srun.name == "srun");
  CHECK(srun.size == 8);
  CHECK(launcher_in({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).size == 2);
  CHECK(!launcher_in({{"PMIX_RANK", "0"}}).alone());
  CHECK_THROWS_WITH(launcher_in({{"SLURM_STEP_NUM_TASKS", "8"}}), Catch::Contains("srun --mpi=pmix"));
  for (const auto& [rank, size] : {std::pair{"PMI_RANK", "PMI_SIZE"},
                                   {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"},
                                   {"MPIRUN_RANK", "MPIRUN_NPROCS"},
                                   {"JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"},
                                   {"FLUX_TASK_RANK", "FLUX_JOB_SIZE"},
                                   {"HOROVOD_RANK", "HOROVOD_SIZE"},
                                   {"_CONDOR_PROCNO", "_CONDOR_NPROCS"},
                                   {"MPI_LOCALRANKID", "MPI_LOCALNRANKS"}}) {
    const Launcher launcher = launcher_in({{rank, "1"}, {size, "2"}});
    CHECK(launcher.rank == 1);
    CHECK(launcher.size == 2);
    CHECK(launcher.said == std::string(rank) + "=1 " + size + "=2");
    CHECK(launcher_in({{size, "2"}}).size == 2);
  }
  CHECK(launcher_in({{"RANK", "0"}, {"WORLD_SIZE", "2"}}).alone());  // anybody's words
  CHECK(launcher_in({{"RANK", "0"}, {"WORLD_SIZE", "two"}}).alone());
  CHECK(launcher_in({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"TORCHELASTIC_RUN_ID", "none"}}).size == 2);
  CHECK(launcher_in({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}}).size == 2);
  for (const char* rank : {"PALS_RANKID", "ALPS_APP_PE"}) CHECK(!launcher_in({{rank, "0"}}).alone());
}

TEST_CASE("One launcher in another: none of several processes is taken for one alone") {
  using Environment = std::map<std::string, std::string>;
  const Environment one{{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"PMIX_RANK", "0"}};
  const Environment two{{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}};
  Environment both = one;
  both.insert(two.begin(), two.end());
  CHECK(launcher_in(one).alone());
  CHECK(launcher_in(both).size == 2);
  CHECK(launcher_in(both).said == "PMI_RANK=1 PMI_SIZE=2");
  Environment inner = {{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}};
  inner.insert(two.begin(), two.end());
  CHECK(launcher_in(inner).size == 4);
  // The processes with which mpirun starts those of other hosts are tasks of Slurm.
  Environment in_slurm = one;
  in_slurm["SLURM_STEP_NUM_TASKS"] = "2";
  CHECK(launcher_in(in_slurm).alone());
  CHECK_THROWS_WITH(launcher_in({{"PMI_RANK", "5"}, {"PMI_SIZE", "1"}}), Catch::Contains("no process 5"));
}

TEST_CASE("Numbers of launchers are numbers") {
  for (const char* text : {"", "two", "2x", "-1", "99999999999999999999", " 2"})
    CHECK_THROWS_WITH(launcher_in({{"PMI_RANK", "0"}, {"PMI_SIZE", text}}),
                      Catch::Contains("PMI_SIZE=" + std::string(text)));
}

TEST_CASE("What MPI sees has to be what the launcher says") {
  CHECK_NOTHROW(launcher_in({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).require_agreement(1, 2));
  CHECK_NOTHROW(launcher_in({{"PMIX_RANK", "3"}}).require_agreement(3, 4));
  CHECK_NOTHROW(launcher_in({{"OMPI_COMM_WORLD_SIZE", "4"}}).require_agreement(2, 4));
  CHECK_THROWS_WITH(launcher_in({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}).require_agreement(0, 1),
                    Catch::Contains("PMI_RANK=0 PMI_SIZE=2") && Catch::Contains("process 0 of 2") &&
                        Catch::Contains("process 0 of 1"));
  CHECK_THROWS(launcher_in({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}).require_agreement(0, 2));
  CHECK_THROWS(launcher_in({{"PMIX_RANK", "0"}}).require_agreement(0, 1));
  CHECK_THROWS(launcher_in({{"PMIX_RANK", "1"}}).require_agreement(0, 1));
}

TEST_CASE("Threads: the cores that a process may use, shared with those that may use the same") {
  // One process; four on one host, bound to nothing; the same in a container with 8 of the host's cores.
  CHECK(CoreShare{16, 1, 16, 1}.threads() == 16);
  CHECK(CoreShare{16, 4, 16, 4}.threads() == 4);
  CHECK(CoreShare{2, 4, 2, 4}.threads() == 1);
  // Two to each of two sockets; one core each, as mpirun does by itself with two ranks.
  CHECK(CoreShare{8, 2, 16, 4}.threads() == 4);
  const CoreShare one_core{1, 1, 16, 2};
  CHECK(one_core.threads() == 1);
  CHECK(one_core.bound_too_tightly());
  CHECK(!CoreShare{16, 4, 16, 4}.bound_too_tightly());
  CHECK(!CoreShare{2, 4, 2, 4}.bound_too_tightly());
  CHECK(!CoreShare{8, 2, 16, 4}.bound_too_tightly());
  CHECK(!CoreShare{5, 1, 16, 3}.bound_too_tightly());
}

TEST_CASE("A process alone: what it is asked for it uses, and experts spread over nobody") {
  const auto self = Processes::alone();
  CHECK(self->threads_for(3) == 3);
  CHECK(self->threads_for(0) >= 1);
  CHECK(self->size() == 1);
  CHECK(self->grid(1, 60)->ranks() == 1);
  CHECK_THROWS_WITH(self->grid(2, 60), Catch::Contains("this is one process"));
}

// ---- agreement ------------------------------------------------------------------------------------------------------

TEST_CASE("A disagreement names the first rank that differs and the first line that does") {
  CHECK(disagreement("configuration", {"a\nb\n", "a\nb\n", "a\nb\n"}).empty());
  CHECK(disagreement("configuration", {"a\nb\n", "a\nb\n", "a\nc\n", "x\n"}) ==
        "rank 2 has another configuration than rank 0: line 2 is 'c' there and 'b' on rank 0");
  CHECK(disagreement("build", {"a\nb", "a"}) ==
        "rank 1 has another build than rank 0: line 2 is nothing there and 'b' "
        "on rank 0");
  CHECK(disagreement("build", {"a\n", "a"}) == "rank 1 has another build than rank 0: line ends differ");
}

}  // namespace
}  // namespace strand
