#include "loop_order.h"

#include <dlfcn.h>
#include <omp.h>

#include <atomic>

namespace strand::test {

namespace {
std::atomic<bool> last_first{false};

/// The loop that a thread is in: blocks of iterations are mirrored between its ends.
struct Loop {
  long start = 0, end = 0, increment = 1;

  void mirror(long& first, long& past) const {
    if (!last_first || increment <= 0) return;
    const long count = (end - start + increment - 1) / increment;
    const long begin = (first - start) / increment, stop = (past - start + increment - 1) / increment;
    first = start + (count - stop) * increment;
    past = start + (count - begin) * increment;
  }
};
// A region inside a region has a loop of its own, and the outer one goes on after it.
constexpr int deepest = 8;
thread_local Loop loops[deepest];
Loop& loop() {
  return loops[omp_get_level() < deepest ? omp_get_level() : deepest - 1];
}

/// A parallel region that is one loop: every thread of the team has to know the loop's ends.
struct Region {
  void (*body)(void*);
  void* data;
  Loop loop;
};
void enter(void* region) {
  const Region& r = *static_cast<const Region*>(region);
  loop() = r.loop;
  r.body(r.data);
}

template <typename Function>
Function* of_libgomp(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}
}  // namespace

LastBlocksFirst::LastBlocksFirst() {
  last_first = true;
}
LastBlocksFirst::~LastBlocksFirst() {
  last_first = false;
}

}  // namespace strand::test

// The functions behind `schedule(dynamic)` in code of GCC, as libgomp declares them.
extern "C" {
bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long increment, long chunk, long* first, long* past);
bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* past);
void GOMP_parallel_loop_nonmonotonic_dynamic(void (*body)(void*), void* data, unsigned threads, long start, long end,
                                             long increment, long chunk, unsigned flags);

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long increment, long chunk, long* first, long* past) {
  using namespace strand::test;
  static const auto real =
      of_libgomp<decltype(GOMP_loop_nonmonotonic_dynamic_start)>("GOMP_loop_nonmonotonic_dynamic_start");
  loop() = {start, end, increment};
  const bool any = real(start, end, increment, chunk, first, past);
  if (any) loop().mirror(*first, *past);
  return any;
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* past) {
  using namespace strand::test;
  static const auto real =
      of_libgomp<decltype(GOMP_loop_nonmonotonic_dynamic_next)>("GOMP_loop_nonmonotonic_dynamic_next");
  const bool any = real(first, past);
  if (any) loop().mirror(*first, *past);
  return any;
}

void GOMP_parallel_loop_nonmonotonic_dynamic(void (*body)(void*), void* data, unsigned threads, long start, long end,
                                             long increment, long chunk, unsigned flags) {
  using namespace strand::test;
  static const auto real =
      of_libgomp<decltype(GOMP_parallel_loop_nonmonotonic_dynamic)>("GOMP_parallel_loop_nonmonotonic_dynamic");
  Region region{body, data, {start, end, increment}};
  real(enter, &region, threads, start, end, increment, chunk, flags);
}
}
