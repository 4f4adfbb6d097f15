#include "gpu_emulation/shadow.h"

#include <memory>
#include <unordered_map>

namespace gpu_emulation {

namespace {
constexpr uintptr_t page_bytes = 4096;
constexpr uintptr_t cell_bytes = 2;

using Page = std::unique_ptr<Cell[]>;
}  // namespace

Cell& cell_of(uintptr_t address) {
  static auto& pages = *new std::unordered_map<uintptr_t, Page>;
  static uintptr_t last_number = ~uintptr_t{0};
  static Cell* last_page = nullptr;
  const uintptr_t number = address / page_bytes;
  if (number != last_number) {
    Page& page = pages[number];
    if (page == nullptr) page = std::make_unique<Cell[]>(page_bytes / cell_bytes);
    last_number = number;
    last_page = page.get();
  }
  return last_page[address % page_bytes / cell_bytes];
}

}  // namespace gpu_emulation
