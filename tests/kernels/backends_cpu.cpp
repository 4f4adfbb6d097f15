// The operation tests on the CPU backend: on 1, 2, 3, 5 and 8 threads, and on each number twice: with the blocks of
// parallel loops handed out first to last, and last to first (loop_order.h).
#include <omp.h>

#include "harness.h"
#include "kernels/cpu/backend.h"
#include "loop_order.h"

namespace strand::test {

namespace {
/// Sets the number of threads until the end of its life.
class ThreadsInUse {
 public:
  explicit ThreadsInUse(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadsInUse() { omp_set_num_threads(before_); }
  ThreadsInUse(const ThreadsInUse&) = delete;
  ThreadsInUse& operator=(const ThreadsInUse&) = delete;

 private:
  int before_;
};

struct ThreadsLastBlocksFirst {
  explicit ThreadsLastBlocksFirst(int threads) : in_use(threads) {}
  ThreadsInUse in_use;
  LastBlocksFirst reversed;
};
}  // namespace

const std::vector<Backend>& backends() {
  static const std::unique_ptr<Ops> cpu = make_cpu_ops();
  static const std::vector<Backend> all = {{"cpu f32", cpu.get(), DType::f32}, {"cpu bf16", cpu.get(), DType::bf16}};
  return all;
}

const std::vector<Execution>& executions() {
  static const std::vector<Execution> all = [] {
    std::vector<Execution> list;
    for (const int threads : {1, 2, 3, 5, 8}) {
      const std::string name = std::to_string(threads) + " threads";
      list.push_back({name, threads, [threads] { return std::make_shared<ThreadsInUse>(threads); }});
      list.push_back({name + ", last block first", threads,
                      [threads] { return std::make_shared<ThreadsLastBlocksFirst>(threads); }});
    }
    return list;
  }();
  return all;
}

std::string faults_of_backend() {
  return "";
}

}  // namespace strand::test
