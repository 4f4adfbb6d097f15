#pragma once
// What a run left in its directory, as a report reads it: config.yaml, log.jsonl, and where they are there
// environment.json, analysis/analysis.json, evaluation/results.json and samples.txt.
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/config.h"
#include "run_report/series.h"

namespace strand::run_report {

/// Each expert's share of its layer's selections after a step: [layers][E].
struct LoadTable {
  int64_t step = 0;
  std::vector<std::vector<double>> share;
};

struct RunFiles {
  std::string directory;
  Config config;
  std::string config_yaml;  ///< as it is in the directory
  /// Every number of the log by its column; a number within an object as "column.member".
  std::map<std::string, Series> columns;
  std::vector<LoadTable> loads;
  int64_t rows = 0;           ///< of steps; row 0 does not count
  int64_t foreign_lines = 0;  ///< lines of the log that are no rows
  int64_t last_step = 0;
  int64_t nonfinite_steps = 0;                               ///< steps whose loss or gradient norm is not a number
  std::string nonfinite;                                     ///< where the last step was not, as far as the log tells
  bool last_is_finite = true;                                ///< whether those of the last step are
  nlohmann::ordered_json environment, analysis, evaluation;  ///< null where there is no such file
  std::string samples;

  const std::string& name() const { return config.run.name; }
  bool finished() const { return last_step == config.train.steps; }
  int64_t moe_layers() const { return config.model.num_layers - config.model.dense_layers; }
  /// Empty where the log has no such column.
  const Series& column(const std::string& name) const;
  double tokens() const;
  /// That the steps took, from tokens and tokens per second.
  double training_seconds() const;
};

/// Throws Error when the directory is not one of a run, or a file of it cannot be understood.
RunFiles read_run(const std::string& directory);

/// The files that a report reads, those that are there: to see whether one has changed.
std::vector<std::string> files_of(const std::string& directory);

}  // namespace strand::run_report
