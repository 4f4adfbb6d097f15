#pragma once
// The commands of `strand`. Each add_x_command registers a subcommand with its options and a callback that does the
// work; a new command is a file cmd_x.cpp, a line here, a line in main.cpp and one in CMakeLists.txt.
//
// A callback may print its result on standard output, log on standard error, throw Error (exit code 1) or UsageError
// (exit code 2), or throw CLI::RuntimeError(code) after it has printed the reason. When it returns, the program exits
// with 0. Commands that take Processes may run as several processes. They throw RuntimeError on all ranks or on none,
// and print their result on rank 0.
#include <CLI/CLI.hpp>

#include "parallel/launch.h"

namespace strand::cli {

void add_config_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_bench_command(CLI::App& app, Processes& processes);
void add_inspect_command(CLI::App& app);
void add_verify_command(CLI::App& app, Processes& processes);
void add_eval_command(CLI::App& app, Processes& processes);
void add_score_command(CLI::App& app, Processes& processes);
void add_analyse_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_import_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_train_command(CLI::App& app, Processes& processes);
void add_report_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_train_tokenizer_command(CLI::App& app);
/// `completion SHELL` and `manual`, which --help does not show. `app` outlives the parse.
void add_document_commands(CLI::App& app);

}  // namespace strand::cli
