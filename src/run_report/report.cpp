#include "run_report/report.h"

#include <algorithm>

#include "core/error.h"
#include "run_report/panels.h"

namespace strand::run_report {

std::string make_report(const std::vector<std::string>& directories, int64_t refresh_seconds) {
  require(!directories.empty(), "a report needs the directory of a run");
  std::vector<RunFiles> runs;
  for (const std::string& directory : directories) runs.push_back(read_run(directory));
  const Groups groups = groups_of(runs);
  Page page(runs.size() == 1 ? runs.front().name() : groups.front().name + " and others");
  page.refresh_every(refresh_seconds);
  add_header(page, runs, groups);
  add_warnings(page, runs);
  add_comparison(page, groups);
  add_losses(page, groups);
  add_terms(page, groups);
  add_optimizer(page, groups);
  add_speed(page, groups);
  add_load(page, groups);
  add_router(page, groups);
  add_specialization(page, groups);
  add_coupling(page, groups);
  add_stability(page, groups);
  add_domains(page, groups);
  add_evaluation(page, groups);
  add_samples(page, groups);
  add_configuration(page, runs, groups);
  return page.finish();
}

bool all_finished(const std::vector<std::string>& directories) {
  return std::all_of(directories.begin(), directories.end(),
                     [](const std::string& directory) { return read_run(directory).finished(); });
}

}  // namespace strand::run_report
