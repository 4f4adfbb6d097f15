#include "train/verify.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "kernels/staging.h"
#include "train/logical_values.h"
#include "train/schedule.h"
#include "train/training_plan.h"

namespace strand {

VerifyTolerance VerifyTolerance::of(Precision precision) {
  switch (precision) {
    // The references were computed in f64 and stored in f32 (relative rounding 6e-8).
    case Precision::fp64:
      return {.output = 1e-6, .gradient = 1e-6, .gradient_norm = 1e-6, .movement = 1e-4};
    // Ten times what the reference implementation itself shows when it runs in f32.
    case Precision::fp32:
      return {.output = 1e-5, .gradient = 1e-4, .gradient_norm = 1e-5, .movement = 2e-3};
    // bf16 keeps 8 bits: one rounding is up to 2^-9 = 0.2 % of a value. An output is some ten roundings away from its
    // inputs, so values agree to a few percent, and gradients, which pass the network twice, to several. AdamW makes a
    // step of about lr of any gradient, however small: where rounding changes the sign of a tiny one its weight goes
    // the other way. So the movement agrees in direction (unrelated movements would differ by √2), not in digits. Norms
    // of later gradients are those of weights that have moved apart so far, and sum up errors of all signs: half of
    // what a gradient may differ.
    case Precision::bf16:
      return {.measure = VerifyTolerance::Measure::whole_group,
              .output = 5e-2,
              .gradient = 0.2,
              .gradient_norm = 0.1,
              .movement = 0.5,
              .selection = 0.05};
  }
  return {};
}

bool VerifyReport::pass() const {
  return std::all_of(rows.begin(), rows.end(), [](const VerifyRow& r) { return r.pass; });
}

namespace {

/// The differences between two sides of one tensor, or of a group of tensors.
struct Difference {
  double max_difference = 0, max_got = 0, max_stored = 0;
  double squares = 0;
  double scale_squares = 0;  ///< of what the 2-norm is taken relative to

  /// `origin` empty, or what both sides started from.
  void add(const std::vector<double>& got, const std::vector<double>& stored, const std::vector<double>& origin) {
    for (size_t i = 0; i < got.size(); ++i) {
      const double d = got[i] - stored[i], moved = stored[i] - (origin.empty() ? 0.0 : origin[i]);
      max_difference = std::max(max_difference, std::isfinite(d) ? std::abs(d) : INFINITY);
      max_got = std::max(max_got, std::abs(got[i]));
      max_stored = std::max(max_stored, std::abs(stored[i]));
      squares += std::isfinite(d) ? d * d : INFINITY;
      scale_squares += moved * moved;
    }
  }
  /// For stored zeros, the largest value on a scale where the bound 1e-6 becomes `tolerance`.
  double by_maximum(double tolerance) const {
    return max_stored < 1e-7 ? std::max(max_got, max_difference) * tolerance / 1e-6 : max_difference / max_stored;
  }
  double by_norm(double tolerance) const {
    const double difference = std::sqrt(squares), scale = std::sqrt(scale_squares);
    return scale < 1e-7 ? difference * tolerance / 1e-6 : difference / scale;
  }
};

/// Collects comparisons into rows, one for each group.
class Comparison {
 public:
  explicit Comparison(VerifyTolerance::Measure measure) : measure_(measure) {}

  enum class Norm : uint8_t { maximum, two };
  void add(const std::string& group, const std::string& tensor, const std::vector<double>& got,
           const std::vector<double>& stored, double tolerance, Norm norm = Norm::maximum,
           const std::vector<double>& origin = {}) {
    require(got.size() == stored.size() && (origin.empty() || origin.size() == got.size()),
            "{}: {} values where {} are stored", tensor, got.size(), stored.size());
    Difference difference;
    difference.add(got, stored, origin);
    const double error = norm == Norm::maximum ? difference.by_maximum(tolerance) : difference.by_norm(tolerance);
    Group& g = add_error(group, tensor, error, tolerance);
    g.whole.add(got, stored, origin);
  }
  /// Adds an error that is not of tensors.
  void add(const std::string& group, double error, double tolerance) {
    add_error(group, group, error, tolerance).share = true;
  }

  std::vector<VerifyRow> rows() const {
    std::vector<VerifyRow> out;
    for (const Group& g : groups_) {
      const std::string quantity = g.count > 1 ? fmt::format("{} ({} tensors)", g.quantity, g.count) : g.quantity;
      VerifyRow row{quantity, g.count > 1 ? g.worst : "", g.error, g.tolerance, g.pass};
      if (measure_ == VerifyTolerance::Measure::whole_group && !g.share) {
        row.worst.clear();
        row.error = g.whole.by_norm(g.tolerance);
        row.pass = row.error <= g.tolerance;
      }
      out.push_back(row);
    }
    return out;
  }

 private:
  struct Group {
    std::string quantity;
    std::string worst;
    double error = 0;
    double tolerance = 0;
    bool pass = true;
    bool share = false;
    int count = 0;
    Difference whole;
  };

  Group& add_error(const std::string& group, const std::string& tensor, double error, double tolerance) {
    auto [it, fresh] = index_.try_emplace(group, groups_.size());
    if (fresh) groups_.push_back({.quantity = group, .tolerance = tolerance});
    Group& g = groups_[it->second];
    ++g.count;
    g.pass = g.pass && error <= tolerance;  // a tolerance of 0 asks for equality
    if (g.count == 1 || !(error <= g.error)) {
      g.error = error;
      g.worst = tensor;
    }
    return g;
  }

  VerifyTolerance::Measure measure_;
  std::vector<Group> groups_;
  std::map<std::string, size_t> index_;
};

class Replay {
 public:
  Replay(const ReferenceCase& reference, Ops& ops, ProcessGrid& grid, Precision precision)
      : reference_(reference),
        tolerance_(VerifyTolerance::of(precision)),
        config_(session_config(reference.config(), precision)),
        data_(part_of_rank(reference.data(), grid.rank(), grid.ranks())),
        session_(ops, grid, config_, shape(data_), plan_training(config_, shape(data_), ops, grid)),
        runner_(session_),
        shapes_(logical_shapes(session_)),
        comparison_(tolerance_.measure) {}

  VerifyReport run() {
    load_parameters();
    compare_outputs();
    compare_gradients();
    compare_term_gradients();
    compare_trajectory();
    return {reference_.name(), comparison_.rows()};
  }

 private:
  /// Every term gets a weight, so that the memory suffices for any objective.
  static Config session_config(Config config, Precision precision) {
    config.run.precision = precision;
    for (const TermRow& row : term_table)
      if (row.weight != nullptr) config.losses.*row.weight = 1.0;
    return config;
  }
  static SessionShape shape(const StepData& data) {
    const auto& micro = data.micro_batches;
    return {Purpose::training, *std::max_element(micro.begin(), micro.end()), data.tokens};
  }
  Objective objective() const { return {.losses = reference_.config().losses}; }

  void load_parameters() {
    for (const Parameter& p : session_.parameters().all())
      for (const LogicalTensor& part : p.logical)
        session_.parameters().store(session_.ops(), p, part,
                                    reference_.values("param." + part.name, part.shape.dims()));
    session_.parameters().zero_training_state(session_.ops());
    for (const Parameters::RouterBias& b : session_.parameters().router_biases())
      upload_values(session_.ops(), b.bias, reference_.values("param." + b.name, b.bias.shape.dims()));
    runner_.set_updates(0);
  }

  /// `shape` is that of `got`, and so must be that of the stored tensor.
  void compare(const std::string& group, const std::string& tensor, const std::vector<int64_t>& shape,
               const std::vector<double>& got, double tolerance) {
    comparison_.add(group, tensor, got, reference_.values(tensor, shape), tolerance);
  }

  void compare_outputs();
  double differing_choices(const std::vector<double>& selected);
  void compare_gradients();
  void compare_term_gradients();
  void compare_trajectory();
  void compare_gradient_norms(const std::vector<double>& norms);
  void compare_final_parameters();

  const ReferenceCase& reference_;
  VerifyTolerance tolerance_;
  Config config_;
  StepData data_;  ///< this rank's part of the reference's
  Session session_;
  StepRunner runner_;
  std::map<std::string, Shape> shapes_;  ///< of all weights, by name
  Comparison comparison_;
};

/// Compares logits and routing, micro-step by micro-step and within one rank by rank, which is the order of the
/// reference. Then it compares the terms and counts of the whole step.
void Replay::compare_outputs() {
  Ops& ops = session_.ops();
  Transformer& model = session_.transformer();
  const StepData& data = reference_.data();
  const int64_t layers = model.moe_layers(), vocab = config_.model.vocab_size;
  const int64_t experts = config_.moe.num_experts, tokens = data.sequences() * data.tokens;
  std::vector<double> logits;
  std::vector<std::vector<double>> router_logits(static_cast<size_t>(layers)), selected(router_logits.size());
  ControlChannel& hosts = session_.grid().control();
  const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  const auto append_all = [&](std::vector<double>& to, const Tensor& mine) {
    append(to, gather_values(hosts, download_values(ops, mine)));
  };
  const StepTerms terms = runner_.evaluate_with_logits(data_, objective(), [&](const Tensor& device) {
    append_all(logits, device);
    for (int64_t l = 0; l < layers; ++l) {
      append_all(router_logits[size_t(l)], model.routing(l).logits);
      append_all(selected[size_t(l)], model.routing(l).selected);
    }
  });
  if (model.evaluation_counts()) session_.grid().world().all_reduce_sum(Traffic::statistics, model.evaluation_counts());
  const auto concatenate = [&](const std::vector<std::vector<double>>& parts) {
    std::vector<double> all;
    for (const auto& part : parts) append(all, part);
    return all;
  };
  compare("out.logits", "out.logits", {data.sequences(), data.tokens, vocab}, logits, tolerance_.output);
  if (layers > 0)
    compare("out.router_logits", "out.router_logits", {layers, tokens, experts}, concatenate(router_logits),
            tolerance_.output);

  comparison_.add("choices of experts that differ", differing_choices(concatenate(selected)), tolerance_.selection);
  if (tolerance_.selection == 0) {
    compare("out.selected", "out.selected", {layers, tokens, config_.moe.top_k}, concatenate(selected), 0.0);
    compare("out.counts", "out.counts", {layers, experts}, concatenate(runner_.evaluation_counts()), 0.0);
  }
  compare("out.loss", "out.loss", {1}, {terms.loss}, tolerance_.output);
  for (const TermRow& row : term_table) {
    const std::string name = fmt::format("out.term.{}", row.name);
    const bool younger_than_file = objective().weight(row.term) == 0 && !reference_.has(name);
    if (!younger_than_file) compare(name, name, {1}, {terms[row.term]}, tolerance_.output);
  }
}

/// The share of the slots whose expert is not among the stored ones of their token.
double Replay::differing_choices(const std::vector<double>& selected) {
  const int64_t k = config_.moe.top_k, tokens = reference_.data().sequences() * reference_.data().tokens;
  const std::vector<double> stored =
      reference_.values("out.selected", {session_.transformer().moe_layers(), tokens, k});
  int64_t different = 0;
  for (size_t i = 0; i < selected.size(); ++i) {
    const auto token = stored.begin() + static_cast<int64_t>(i) / k * k;
    different += std::find(token, token + k, selected[i]) == token + k;
  }
  return stored.empty() ? 0.0 : static_cast<double>(different) / static_cast<double>(stored.size());
}

void Replay::compare_gradients() {
  runner_.accumulate(data_, objective(), 0);
  const auto gradients = gather_logical(session_, &OwnedPart::gradient);
  for (const auto& [name, shape] : shapes_)
    compare("grad", "grad." + name, shape.dims(), gradients.at(name), tolerance_.gradient);
}

/// Compares the gradients of each term alone, with weight 1.
void Replay::compare_term_gradients() {
  for (const TermRow& row : term_table) {
    const std::string prefix = fmt::format("termgrad.{}.", row.name);
    const auto& entries = reference_.file().tensors();
    if (std::none_of(entries.begin(), entries.end(), [&](const TensorEntry& e) { return e.name.starts_with(prefix); }))
      continue;
    runner_.accumulate(data_, Objective::only(reference_.config().losses, row.term), 0);
    const auto gradients = gather_logical(session_, &OwnedPart::gradient);
    for (const auto& [name, shape] : shapes_)
      if (reference_.has(prefix + name))
        compare(prefix.substr(0, prefix.size() - 1), prefix + name, shape.dims(), gradients.at(name),
                tolerance_.gradient);
  }
}

void Replay::compare_trajectory() {
  const int64_t steps = config_.train.steps;
  std::vector<double> loss, ce, lr, grad_norm;
  for (int64_t i = 0; i < steps; ++i) {
    lr.push_back(learning_rate(config_.optimizer, config_.schedule, steps, i));
    runner_.step(data_, objective(), i, {.optimizer = config_.optimizer, .learning_rate = lr.back()});
    const StepResult result = runner_.take_result();
    loss.push_back(result.terms.loss);
    ce.push_back(result.terms[Term::ce]);
    grad_norm.push_back(result.gradient_norm);
  }
  compare("traj.loss", "traj.loss", {steps}, loss, tolerance_.output);
  compare("traj.ce", "traj.ce", {steps}, ce, tolerance_.output);
  compare("traj.lr", "traj.lr", {steps}, lr, 1e-6);
  compare_gradient_norms(grad_norm);
  compare_final_parameters();
}

/// `norms` are those of the steps. The first is of the stored weights, so it is held like an output. The later ones are
/// of weights that have been updated.
void Replay::compare_gradient_norms(const std::vector<double>& norms) {
  const std::string tensor = "traj.grad_norm";
  const std::vector<double> stored = reference_.values(tensor, {static_cast<int64_t>(norms.size())});
  const auto later = [](const std::vector<double>& all) { return std::vector<double>(all.begin() + 1, all.end()); };
  comparison_.add("traj.grad_norm before any update", tensor, {norms.front()}, {stored.front()}, tolerance_.output);
  if (norms.size() > 1)
    comparison_.add("traj.grad_norm after updates", tensor, later(norms), later(stored), tolerance_.gradient_norm);
}

void Replay::compare_final_parameters() {
  const auto movement = [&](const std::string& name, const Shape& shape, const std::vector<double>& got) {
    comparison_.add("traj.param (movement)", "traj.param." + name, got,
                    reference_.values("traj.param." + name, shape.dims()), tolerance_.movement, Comparison::Norm::two,
                    reference_.values("param." + name, shape.dims()));
  };
  const auto weights = gather_logical(session_, &OwnedPart::master);
  for (const auto& [name, shape] : shapes_) movement(name, shape, weights.at(name));
  for (const Parameters::RouterBias& b : session_.parameters().router_biases())
    movement(b.name, b.bias.shape, download_values(session_.ops(), b.bias));
}

}  // namespace

VerifyReport verify_case(const ReferenceCase& reference, Ops& ops, ProcessGrid& grid, Precision precision) {
  return Replay(reference, ops, grid, precision).run();
}

std::string format_report(const VerifyReport& report) {
  std::string text = fmt::format("{}\n  {:<34} {:>12} {:>10}\n", report.case_name, "quantity", "error", "tolerance");
  for (const VerifyRow& r : report.rows)
    text += fmt::format("  {:<34} {:>12.3g} {:>10.1e}  {}{}\n", r.quantity, r.error, r.tolerance,
                        r.pass ? "pass" : "FAIL", r.worst.empty() ? "" : "  worst: " + r.worst);
  return text;
}

}  // namespace strand
