#pragma once
// The terms of the objective, in one table (docs/mathematics.md, section 3). The keys of their weights, warnings,
// columns of the log, the console, `strand verify`, `strand eval` and what a step computes at all are made from it.
// docs/adding-a-term.md shows how a row is added.
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "config/config.h"

namespace strand {

/// A term is also its place in the vector of values.
enum class Term : uint8_t { ce, lb, z, sp, cp, o, v, entropy };
constexpr int term_count = 8;

/// What a term is computed from. It is prepared only in steps that measure a term which needs it.
enum class TermInput : uint8_t {
  targets,     ///< logits of the head, and the targets
  scores,      ///< logits and p of a layer's router
  statistics,  ///< selections and mean p of groups of tokens; a message where the groups span ranks (lb_scope)
  pairs_of_z,  ///< Gram matrices of the inner activations of a token's experts; messages where these are spread
  pairs_of_y,  ///< Gram matrices of the outputs of a token's experts
  neighbours,  ///< p of two adjacent MoE layers; a message in cp's batch form
};

/// In which training steps the value is measured although the term has no weight. (A term with a weight is measured in
/// every step.)
enum class Measured : uint8_t { every_step, logged_steps };

/// Under which configuration a term is constant, so that a weight has no effect.
enum class Idle : uint8_t { never, one_active_expert, all_experts_active, one_expert };

enum class WeightSign : uint8_t { non_negative, any };

struct TermRow {
  Term term;
  const char* name;            ///< "lb": the log's column; its weight is the key losses.lb_weight
  const char* text;            ///< the term in a few words
  double LossConfig::*weight;  ///< none for ce, whose weight is 1
  WeightSign sign;
  TermInput input;
  Measured measured;
  Idle idle;
};

inline constexpr TermRow term_table[term_count] = {
    {Term::ce, "ce", "cross-entropy", nullptr, WeightSign::non_negative, TermInput::targets, Measured::every_step,
     Idle::never},
    {Term::lb, "lb", "load-balancing loss", &LossConfig::lb_weight, WeightSign::non_negative, TermInput::statistics,
     Measured::every_step, Idle::all_experts_active},
    {Term::z, "z", "router z-loss", &LossConfig::z_weight, WeightSign::non_negative, TermInput::scores,
     Measured::every_step, Idle::never},
    {Term::sp, "sp", "specialization loss (squared cosine of the experts' inner activations)", &LossConfig::sp_weight,
     WeightSign::non_negative, TermInput::pairs_of_z, Measured::logged_steps, Idle::one_active_expert},
    {Term::cp, "cp", "coupling loss between adjacent MoE layers", &LossConfig::cp_weight, WeightSign::non_negative,
     TermInput::neighbours, Measured::logged_steps, Idle::all_experts_active},
    {Term::o, "o", "orthogonality loss of expert outputs", &LossConfig::o_weight, WeightSign::non_negative,
     TermInput::pairs_of_y, Measured::logged_steps, Idle::one_active_expert},
    {Term::v, "v", "routing-variance loss", &LossConfig::v_weight, WeightSign::non_negative, TermInput::statistics,
     Measured::every_step, Idle::one_expert},
    {Term::entropy, "entropy", "entropy of a token's routing probabilities (in nats; a negative weight evens them out)",
     &LossConfig::entropy_weight, WeightSign::any, TermInput::scores, Measured::every_step, Idle::one_expert},
};

constexpr bool rows_are_in_order() {
  for (size_t i = 0; i < term_count; ++i)
    if (term_table[i].term != static_cast<Term>(i)) return false;
  return true;
}
static_assert(rows_are_in_order(), "a row of the table is not at the place of its term");

/// "lb_weight", of the group losses.
inline std::string weight_key(const TermRow& row) {
  return std::string(row.name) + "_weight";
}

/// A set of terms.
class TermSet {
 public:
  constexpr TermSet() = default;
  constexpr TermSet(std::initializer_list<Term> terms) {
    for (const Term term : terms) *this = with(term);
  }
  static constexpr TermSet all() { return TermSet((1u << term_count) - 1); }

  constexpr bool contains(Term term) const { return (bits_ & bit(term)) != 0; }
  constexpr TermSet with(Term term) const { return TermSet(bits_ | bit(term)); }
  constexpr TermSet without(Term term) const { return TermSet(bits_ & ~bit(term)); }
  constexpr bool operator==(const TermSet&) const = default;

 private:
  constexpr explicit TermSet(uint32_t bits) : bits_(bits) {}
  static constexpr uint32_t bit(Term term) { return 1u << static_cast<uint32_t>(term); }
  uint32_t bits_ = 0;
};

/// Whether one of the terms is computed from `input`.
constexpr bool needs(const TermSet& terms, TermInput input) {
  for (const TermRow& row : term_table)
    if (row.input == input && terms.contains(row.term)) return true;
  return false;
}

/// What training measures in a step that it does not log, beside the terms with a weight.
constexpr TermSet terms_of_every_step() {
  TermSet terms;
  for (const TermRow& row : term_table)
    if (row.measured == Measured::every_step) terms = terms.with(row.term);
  return terms;
}

}  // namespace strand
