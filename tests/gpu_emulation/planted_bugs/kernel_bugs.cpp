#include "gpu_emulation/planted_bugs/kernel_bugs.h"

namespace planted_bugs {

const std::vector<KernelBug>& all() {
  static const std::vector<KernelBug> bugs = [] {
    std::vector<KernelBug> list;
    for (const auto& family : {row_bugs(), expert_bugs(), router_bugs(), attention_bugs(), host_bugs()})
      list.insert(list.end(), family.begin(), family.end());
    return list;
  }();
  return bugs;
}

std::string with_bugs(const std::string& file, std::string text, std::vector<int>& missing) {
  const std::vector<KernelBug>& bugs = all();
  for (size_t i = 0; i < bugs.size(); ++i) {
    const KernelBug& bug = bugs[i];
    if (bug.file != file) continue;
    const size_t after = text.find(bug.after);
    const size_t at = after == std::string::npos ? after : text.find(bug.from, after);
    if (at == std::string::npos) {
      missing.push_back(static_cast<int>(i));
      continue;
    }
    std::string to = bug.to;
    const std::string asks = "::gpu_emulation::planted(" + std::to_string(i) + ")";
    for (size_t mark = to.find("BUG"); mark != std::string::npos; mark = to.find("BUG", mark + asks.size()))
      to.replace(mark, 3, asks);
    text.replace(at, bug.from.size(), to);
  }
  return text;
}

}  // namespace planted_bugs
