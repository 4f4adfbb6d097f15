#pragma once
// The objective of a step: the weights of its terms, and which of them it measures.
#include "config/terms.h"

namespace strand {

/// loss = Σ over terms of weight · value. A term with a weight is measured, as the loss is made of it; others are
/// where somebody asks for their value. What is not measured costs no message and no pass over memory. The
/// cross-entropy is always measured: every pass through the head yields it.
struct Objective {
  LossConfig losses;
  double ce_weight = 1.0;
  TermSet asked = TermSet::all();  ///< terms whose values are wanted, also without a weight

  bool operator==(const Objective&) const = default;

  double weight(Term term) const {
    const auto member = term_table[static_cast<size_t>(term)].weight;
    return member == nullptr ? ce_weight : losses.*member;
  }

  TermSet measured() const {
    TermSet terms = asked.with(Term::ce);
    for (const TermRow& row : term_table)
      if (weight(row.term) != 0) terms = terms.with(row.term);
    return terms;
  }

  /// An objective of one term with weight 1. The options of all terms are those of `losses`; no other term is measured.
  static Objective only(const LossConfig& losses, Term term) {
    Objective objective{.losses = losses, .ce_weight = term == Term::ce ? 1.0 : 0.0, .asked = {}};
    for (const TermRow& row : term_table)
      if (row.weight != nullptr) objective.losses.*row.weight = row.term == term ? 1.0 : 0.0;
    return objective;
  }
};

}  // namespace strand
