// strand report RUN...: what training runs left, as one HTML page.
#include <fmt/core.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/standard_streams.h"
#include "run_report/report.h"
#include "run_report/run_files.h"
#include "train/signals.h"

namespace strand::cli {

namespace {
namespace fs = std::filesystem;

struct Arguments {
  std::vector<std::string> runs;
  std::string out;
  bool watch = false;
  int64_t every = 10;
};

std::string output_of(const Arguments& a) {
  if (!a.out.empty()) return a.out;
  if (a.runs.size() > 1) return run_report::report_file;
  return (fs::path(a.runs.front()) / run_report::report_file).string();
}

/// Changes when a file that a report reads has changed.
std::string state_of(const std::vector<std::string>& runs) {
  std::string state;
  for (const std::string& run : runs) {
    for (const std::string& file : run_report::files_of(run)) {
      struct stat found {};
      if (stat(file.c_str(), &found) == 0)
        state += fmt::format("{} {} {}.{:09}\n", file, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
    }
  }
  return state;
}

void write_report(const Arguments& a, int64_t refresh_seconds) {
  write_file_atomically(output_of(a), run_report::make_report(a.runs, refresh_seconds));
}

/// Until all runs have done their last step, or a signal comes. The page that is left does not refresh itself.
void watch(const Arguments& a) {
  const StopSignals signals;
  std::string written;
  while (!run_report::all_finished(a.runs) && signals.received() == 0) {
    const std::string state = state_of(a.runs);
    if (state != written) write_report(a, a.every);
    written = state;
    for (int64_t tenth = 0; tenth < 10 * a.every && signals.received() == 0; ++tenth)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

void run(const Arguments& a) {
  const std::string out = output_of(a);
  require_replaceable(out);
  if (a.watch) {
    write_report(a, a.every);
    print_out("{}: written anew whenever the log grows, until the end of the run or a signal\n", out);
    watch(a);
  }
  write_report(a, 0);
  print_out("{}\n", out);
}
}  // namespace

void add_report_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("report", "One HTML page of a training run, or of several in comparison");
  command->footer("Example: strand report runs/quickstart --out report.html");
  const auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->runs, "Directories of runs; those that differ in run.seed alone are averaged")
      ->type_name("")
      ->required();
  command->add_option("--out", a->out, "The page (default: report.html in the run; of several runs, here)")
      ->type_name("FILE");
  command->add_flag("--watch", a->watch, "Go on while the runs train: write the page anew as their logs grow");
  add_number(*command, "--every", a->every, int64_t{1}, int64_t{86'400},
             "With --watch: seconds between two looks at the logs, and after which a browser reads the page again "
             "(default 10)");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
