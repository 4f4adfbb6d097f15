#include "run_report/run_files.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/nearest.h"

namespace strand::run_report {

namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uint64_t largest_text = uint64_t{64} << 20;  ///< of a file beside the log
constexpr size_t largest_samples = size_t{1} << 16;    ///< shown of samples.txt
constexpr const char* analysis_file = "analysis/analysis.json";
constexpr const char* evaluation_file = "evaluation/results.json";
constexpr const char* side_files[] = {"config.yaml", "log.jsonl",     "environment.json",
                                      analysis_file, evaluation_file, "samples.txt"};

nlohmann::ordered_json read_json(const std::string& path) {
  if (!fs::exists(path)) return nullptr;
  auto value = nlohmann::ordered_json::parse(read_file(path, largest_text), nullptr, false);
  require(value.is_object(), "{}: not a JSON object; remove it, or make it again", path);
  return value;
}

double number_of(const Json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

void take_load(RunFiles& run, int64_t step, const Json& value) {
  LoadTable table{step, {}};
  for (const Json& layer : value) {
    if (!layer.is_array()) return;
    std::vector<double> row;
    for (const Json& share : layer) row.push_back(number_of(share));
    table.share.push_back(std::move(row));
    if (table.share.back().size() != table.share.front().size()) return;
  }
  if (!table.share.empty() && !table.share.front().empty()) run.loads.push_back(std::move(table));
}

void take_row(RunFiles& run, const Json& row) {
  const auto step = row["step"].get<int64_t>();
  for (const auto& [key, value] : row.items()) {
    if (key == "step") continue;
    if (value.is_number() || value.is_null()) run.columns[key].add(static_cast<double>(step), number_of(value));
    if (key == "expert_load" && value.is_array()) take_load(run, step, value);
    if (!value.is_object()) continue;
    for (const auto& [member, inner] : value.items())
      if (inner.is_number()) run.columns[key + "." + member].add(static_cast<double>(step), number_of(inner));
  }
  if (step == 0) return;
  ++run.rows;
  run.last_step = step;
  const auto is_finite = [&](const char* key) { return !row.contains(key) || row[key].is_number(); };
  run.last_is_finite = is_finite("loss") && is_finite("grad_norm");
  run.nonfinite_steps += !run.last_is_finite;
  run.nonfinite = row.contains("nonfinite") && row["nonfinite"].is_string() ? row["nonfinite"].get<std::string>() : "";
}

/// A last line that is being written has no newline yet and does not count.
void read_log(RunFiles& run, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  require(in.good(), "cannot read {}", path);
  std::string line;
  int64_t before = -1;
  while (std::getline(in, line) && !in.eof()) {
    const Json row = Json::parse(line, nullptr, false);
    const bool valid = row.is_object() && row.contains("step") && row["step"].is_number_unsigned();
    if (!valid || row["step"].get<int64_t>() <= before) {
      ++run.foreign_lines;
      continue;
    }
    before = row["step"].get<int64_t>();
    take_row(run, row);
  }
  require(!in.bad(), "cannot read {}", path);
}
}  // namespace

const Series& RunFiles::column(const std::string& name) const {
  static const Series none;
  const auto found = columns.find(name);
  return found == columns.end() ? none : found->second;
}

double RunFiles::tokens() const {
  const double last = last_value(column("tokens"));
  return std::isfinite(last) ? last : 0;
}

double RunFiles::training_seconds() const {
  const Series& tokens = column("tokens");
  const Series& speed = column("tokens_per_second");
  const double a_step = static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  double seconds = 0;
  for (size_t i = 0; i < speed.size() && i < tokens.size(); ++i)
    if (speed.values[i] > 0) seconds += a_step / speed.values[i];
  return seconds;
}

RunFiles read_run(const std::string& directory) {
  const fs::path path(directory);
  std::error_code ignored;
  if (!fs::is_directory(path, ignored))
    fail("{}: no such directory{}; name the directory of a run", directory, did_you_mean_path(directory));
  const std::string config = (path / "config.yaml").string(), log = (path / "log.jsonl").string();
  for (const std::string& file : {config, log})
    require(fs::is_regular_file(file, ignored), "{}: not the directory of a run: it has no {}", directory,
            fs::path(file).filename().string());
  RunFiles run;
  run.directory = directory;
  run.config_yaml = read_file(config, largest_text);
  run.config = parse_config(run.config_yaml, config);
  read_log(run, log);
  run.environment = read_json((path / "environment.json").string());
  run.analysis = read_json((path / analysis_file).string());
  run.evaluation = read_json((path / evaluation_file).string());
  if (const fs::path samples = path / "samples.txt"; fs::exists(samples))
    run.samples = read_file(samples.string(), largest_text).substr(0, largest_samples);
  return run;
}

std::vector<std::string> files_of(const std::string& directory) {
  std::vector<std::string> files;
  for (const char* name : side_files)
    if (const fs::path path = fs::path(directory) / name; fs::exists(path)) files.push_back(path.string());
  return files;
}

}  // namespace strand::run_report
