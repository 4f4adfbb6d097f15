#include "gpu_emulation/reports.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace gpu_emulation {

namespace {
constexpr size_t most_reports = 64;  // the first ones are the useful ones
constexpr int exit_status = 86;      // of a program that ends with reports that nobody has taken

std::mutex mutex;

/// Never destroyed: the last reports are written when the program ends.
std::vector<Report>& reports() {
  static auto& list = *new std::vector<Report>;
  return list;
}

/// A program that does not look at reports must not end as if all were well.
void at_exit() {
  if (reports().empty()) return;
  for (const Report& r : reports()) std::fprintf(stderr, "GPU emulation: %s: %s\n", r.kind.c_str(), r.text.c_str());
  std::fflush(nullptr);
  _exit(exit_status);
}
const int registered = std::atexit(at_exit);
const bool die_at_once = std::getenv("GPU_EMULATION_DIE") != nullptr;
}  // namespace

void report(const char* kind, const char* format, ...) {
  char text[2048];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const std::lock_guard lock(mutex);
  if (reports().size() < most_reports)
    reports().push_back({kind, std::string(text) + " [in " + current_operation_name() + "]"});
  if (die_at_once) {
    std::fprintf(stderr, "GPU emulation: %s: %s\n", kind, text);
    std::abort();
  }
}

std::vector<Report> take_reports() {
  const std::lock_guard lock(mutex);
  std::vector<Report> taken;
  taken.swap(reports());
  return taken;
}

}  // namespace gpu_emulation
