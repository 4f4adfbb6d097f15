// The `strand` program. It exits with 0 for success, with 1 for an error, which one line on standard error explains,
// and with 2 for a command line that cannot be understood.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "cli/built_from.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/errors.h"
#include "cli/inherited_signals.h"
#include "cli/usage_message.h"
#include "cli/wait_policy.h"
#include "core/error.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "core/version.h"
#include "train/signals.h"

namespace {

using strand::write_output;
using strand::cli::end_with_error;

constexpr int exit_error = 1;
constexpr int exit_usage = 2;

/// The commands that several processes can run together. Any other command would do its work, and write its files, once
/// in every process.
constexpr std::array commands_of_many = {"train", "eval", "score", "verify", "bench"};

std::unique_ptr<strand::Processes> start_processes(const std::string& command) {
  if (std::find(commands_of_many.begin(), commands_of_many.end(), command) != commands_of_many.end())
    return strand::Processes::start(strand::received_signal);
  const strand::Launcher launcher = strand::Launcher::of([](const char* name) { return std::getenv(name); });
  strand::require(launcher.alone(), "strand {} is one process; start it without {} ({})", command, launcher.name,
                  launcher.said);
  return strand::Processes::alone();
}

/// In the order in which people use them.
void add_commands(CLI::App& app, strand::Processes& processes) {
  strand::cli::add_train_tokenizer_command(app);
  strand::cli::add_tokenize_command(app);
  strand::cli::add_config_command(app);
  strand::cli::add_plan_command(app);
  strand::cli::add_train_command(app, processes);
  strand::cli::add_report_command(app);
  strand::cli::add_eval_command(app, processes);
  strand::cli::add_score_command(app, processes);
  strand::cli::add_analyse_command(app);
  strand::cli::add_generate_command(app);
  strand::cli::add_inspect_command(app);
  strand::cli::add_export_command(app);
  strand::cli::add_import_command(app);
  strand::cli::add_verify_command(app, processes);
  strand::cli::add_bench_command(app, processes);
  strand::cli::add_document_commands(app);
  app.footer(
      "Options of a command: strand COMMAND --help. Keys of a configuration: strand config --help-keys.\n"
      "Exit codes: 0 success, 1 an error (one line says which), 2 a command line that cannot be understood.");
}

std::string version_text() {
  const std::string& commit = strand::program_commit();
  return fmt::format("strand {}{}", strand::program_version(), commit.empty() ? "" : "\ncommit " + commit);
}

int run(int argc, char** argv, strand::Processes& processes) {
  CLI::App app("strand trains Mixture-of-Experts language models.", "strand");
  app.set_version_flag("--version", version_text(), "Print the version and the commit it was built from, and exit");
  app.require_subcommand(1);
  add_commands(app, processes);
  strand::cli::refuse_dash(app);
  try {
    strand::cli::require_known_command(app, {argv + std::min(argc, 1), argv + argc});
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& status) {
    return status.get_exit_code();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {  // --help, --version
      std::ostringstream text;
      app.exit(error, text, text);
      write_output(text.str());
      return 0;
    }
    return end_with_error(processes, strand::cli::usage_message(app, error), exit_usage);
  } catch (const strand::UsageError& error) {
    return end_with_error(processes, error.what(), exit_usage);
  }
  return 0;
}

int run_or_end(int argc, char** argv, strand::Processes& processes) {
  if (processes.rank() != 0) strand::log_quiet();
  try {
    return run(argc, argv, processes);
  } catch (const std::exception& error) {
    return end_with_error(processes, strand::cli::words_of(error), exit_error);
  }
}

}  // namespace

int main(int argc, char** argv) {
  strand::cli::restore_inherited_signals();
  strand::open_standard_streams();
  strand::cli::spin_briefly(argv);
  strand::make_write_signals_errors();
  strand::set_program_commit(strand::cli::built_from_commit());
  try {
    const std::unique_ptr<strand::Processes> processes = start_processes(argc > 1 ? argv[1] : "");
    strand::cli::restore_inherited_signals();  // MPI loads libraries when it starts
    const int code = run_or_end(argc, argv, *processes);
    if (code == 0) strand::finish_output();
    return code;
  } catch (const std::exception& error) {
    return strand::cli::report_error(strand::cli::words_of(error), exit_error);
  }
}
