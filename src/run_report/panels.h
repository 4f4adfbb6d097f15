#pragma once
// The panels of a report, in the order of the questions that people ask. Each adds itself to the page.
#include "run_report/groups.h"
#include "run_report/page.h"

namespace strand::run_report {

using Groups = std::vector<Group>;

// panels_overview.cpp
void add_header(Page& page, const std::vector<RunFiles>& runs, const Groups& groups);
void add_warnings(Page& page, const std::vector<RunFiles>& runs);
/// With two groups or more.
void add_comparison(Page& page, const Groups& groups);
void add_configuration(Page& page, const std::vector<RunFiles>& runs, const Groups& groups);

// panels_training.cpp
void add_losses(Page& page, const Groups& groups);
void add_terms(Page& page, const Groups& groups);
void add_optimizer(Page& page, const Groups& groups);
void add_speed(Page& page, const Groups& groups);

// panels_experts.cpp
void add_load(Page& page, const Groups& groups);
void add_router(Page& page, const Groups& groups);

// panels_analysis.cpp: what strand analyse and strand eval have found
void add_specialization(Page& page, const Groups& groups);
void add_coupling(Page& page, const Groups& groups);
void add_stability(Page& page, const Groups& groups);
void add_domains(Page& page, const Groups& groups);
void add_evaluation(Page& page, const Groups& groups);
void add_samples(Page& page, const Groups& groups);

// Of several panels (panels_training.cpp):

/// One line a group, of f(column) for each run. The series is that of `column`, whose values f changes; smoothed over
/// `smoothing` of the points where that is above 0.
struct Quantity {
  std::string id, title, note;
  std::string column;
  double scale = 1;
  double (*change)(double) = nullptr;  ///< after scaling
  double smoothing = 0;
  FromZero from_zero = FromZero::no;
  /// A dashed line across; none when NaN.
  double reference = 0;
  std::string reference_name;
};
Chart chart_of(const Quantity& quantity, const Groups& groups);

}  // namespace strand::run_report
