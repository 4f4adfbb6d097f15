#include "cli/errors.h"

#include <fmt/core.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <new>
#include <system_error>
#include <thread>

#include "core/standard_streams.h"

namespace strand::cli {

namespace {
constexpr int exit_error = 1;
constexpr auto time_for_rank_0 = std::chrono::seconds(1);
}  // namespace

std::string words_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "out of memory";
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return fmt::format("cannot use {}: {}", file->path1().string(), file->code().message());
  const auto* system = dynamic_cast<const std::system_error*>(&error);  // std::thread throws it
  if (system != nullptr && system->code() == std::errc::resource_unavailable_try_again)
    return "cannot start a thread: a limit is reached, of processes (ulimit -u, or pids.max of a control group) or of "
           "memory (ulimit -v); ask for fewer threads, or raise the limit";
  return error.what();
}

int report_error(std::string message, int code) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  write_error(fmt::format("strand: error: {}\n", message));
  return code;
}

int end_with_error(Processes& processes, const std::string& message, int code) {
  if (processes.size() == 1) return report_error(message, code);
  if (processes.rank() != 0) std::this_thread::sleep_for(time_for_rank_0);
  processes.abort(
      report_error(processes.rank() == 0 ? message : fmt::format("rank {}: {}", processes.rank(), message), code));
}

void run_together(Processes& processes, const std::function<void()>& work) {
  if (processes.size() == 1) return work();
  try {
    work();
  } catch (const std::exception& error) {
    end_with_error(processes, words_of(error), exit_error);
  }
}

}  // namespace strand::cli
