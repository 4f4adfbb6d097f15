// cp.async, done as late as PTX allows: when a wait says that it must have happened. Until then the target is spoiled,
// so that a wait that is missing shows in the values, and the checker reports it.
#include <cstring>

#include "gpu_emulation/block.h"
#include "gpu_emulation/checker.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

void check_alignment(const void* address, size_t bytes, Site site) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0)
    report("misaligned", "access of %zu bytes at %p at %s:%d", bytes, address, site.file, site.line);
}

void check_shared_range(const void* address, size_t bytes, const char* what, Site site) {
  const char* p = static_cast<const char*>(address);
  if (p < block.shared || p >= block.shared + most_shared_bytes) return;  // static shared memory
  if (p + bytes <= block.shared + block.shared_bytes) return;
  report("out-of-bounds", "%s past the dynamic shared memory of the block at %s:%d", what, site.file, site.line);
  abort_block();
}

void async_copy(void* shared, const void* global, int bytes, int valid_bytes, Site site) {
  const auto size = static_cast<size_t>(bytes);
  check_alignment(shared, size, site);
  check_alignment(global, size, site);
  check_shared_range(shared, size, "cp.async", site);
  check_access(global, static_cast<size_t>(valid_bytes), Access::read, site);
  check_access(shared, size, Access::write, site);
  if (checker_on) checker_pending(shared, size, Pending::yes);
  std::memset(shared, 0xff, size);
  running->open_copies.push_back({shared, global, bytes, valid_bytes});
}

void async_copy_commit() {
  running->copy_groups.push_back(std::move(running->open_copies));
  running->open_copies.clear();
}

void async_copy_wait(int pending_groups) {
  auto& groups = running->copy_groups;
  while (static_cast<int>(groups.size()) > pending_groups) {
    for (const AsyncCopy& copy : groups.front()) {
      std::memcpy(copy.shared, copy.global, static_cast<size_t>(copy.valid_bytes));
      std::memset(static_cast<char*>(copy.shared) + copy.valid_bytes, 0,
                  static_cast<size_t>(copy.bytes - copy.valid_bytes));
      if (checker_on) checker_pending(copy.shared, static_cast<size_t>(copy.bytes), Pending::no);
    }
    groups.pop_front();
  }
}

}  // namespace gpu_emulation
