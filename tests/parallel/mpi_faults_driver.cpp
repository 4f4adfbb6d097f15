// mpi_faults_driver FAULT WATCHDOG_SECONDS, under mpirun: ranks exchange rows of layers step after step, until in layer
// 3 of step 12 the last rank does not come to the dispatch. Ends with 0 only where nothing went wrong.
#include <fmt/core.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <string>
#include <thread>

#include "core/error.h"
#include "parallel/launch.h"

namespace strand {
namespace {

std::atomic<int> told_to_end = 0;

void fault(const std::string& kind, ProcessGrid& grid) {
  if (kind == "none") return;
  if (kind == "sleep") std::this_thread::sleep_for(std::chrono::hours(1));
  if (kind == "stop") return void(raise(SIGSTOP));  // continues when it is to end
  if (kind == "kill") raise(SIGKILL);
  if (kind == "exit") _exit(0);
  if (kind == "throw") fail("the disk is full");
  if (kind == "mixed") {  // another collective than the others'
    grid.progress().doing = "statistics";
    std::vector<double> numbers(100'000, 1);
    grid.world().all_reduce_sum(Traffic::statistics, {numbers.data(), DType::f64, {100'000}});
  }
  fail("unknown fault '{}'", kind);
}

void layer(ProcessGrid& grid) {
  const auto n = static_cast<size_t>(grid.experts().size());
  std::vector<float> sent(n * 64, 1), received(n * 64);
  const auto rows = [&](std::vector<float>& x) {
    RankRows r{{x.data(), DType::f32, {static_cast<int64_t>(n), 64}}, std::vector<int64_t>(n), {}};
    std::iota(r.first.begin(), r.first.end(), 0);
    r.count.assign(n, 1);
    return r;
  };
  for (const Traffic kind : {Traffic::dispatch, Traffic::combine}) {
    grid.progress().doing = to_string(kind);
    grid.experts().all_to_all(kind, OwnRows::sent, rows(sent), rows(received));
  }
}

void steps(const std::string& kind, ProcessGrid& grid) {
  for (int64_t step = 0; step < 15; ++step) {
    grid.progress().step = step;
    for (int64_t l = 0; l < 5; ++l) {
      if (step == 11 && l == 3 && grid.rank() == grid.ranks() - 1) fault(kind, grid);
      grid.progress().layer = l;
      layer(grid);
    }
  }
}

int run(const std::string& kind, double watchdog_seconds) {
  std::signal(SIGTERM, [](int signal) { told_to_end = signal; });
  const auto processes = Processes::start([] { return told_to_end.load(); });
  const auto grid = processes->grid(processes->size(), watchdog_seconds);
  try {
    steps(kind, *grid);
  } catch (const Error& error) {
    fmt::print(stderr, "strand: error: rank {}: {}\n", processes->rank(), error.what());
    processes->abort(1);
  }
  return 0;
}

}  // namespace
}  // namespace strand

int main(int argc, char** argv) {
  return argc == 3 ? strand::run(argv[1], std::atof(argv[2])) : 2;
}
