#pragma once
// `strand eval CHECKPOINT --tasks ...`: a model's scores on benchmarks.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/scoring_arguments.h"

namespace strand::cli {

struct TaskArguments {
  std::string tasks;  ///< names, with commas between them; "" = no benchmarks
  std::string directory;
  int64_t limit = 0;
  std::string out;
  ScoringArguments scoring;
};

/// Registers --tasks and the options that go with it, and returns --tasks. `arguments` outlives the parse.
CLI::Option* add_task_arguments(CLI::App& command, TaskArguments& arguments);

enum class ResultFormat : uint8_t { table, json };

/// Runs the benchmarks and prints the result.
void evaluate_on_tasks(const ModelArguments& model, const TaskArguments& arguments, ResultFormat format,
                       Processes& processes);

}  // namespace strand::cli
