#include "report/term_switch.h"

#include <type_traits>

namespace strand {

namespace {
template <typename Op, typename... Others>
constexpr bool one_of = (std::is_same_v<Op, Others> || ...);

template <typename Op>
constexpr bool only_for_coupling = one_of<Op, CouplingMasses, CouplingTokenTerm, CouplingJoint, CouplingSelect>;

template <typename Op>
void forward(Ops& behind, const Op& op, Computed specialization, Computed coupling) {
  if constexpr (only_for_coupling<Op>) {
    if (coupling == Computed::no) return;
  }
  if constexpr (std::is_same_v<Op, SpecializationTerm>) {
    if (specialization == Computed::no) return;
  }
  if constexpr (std::is_same_v<Op, Swiglu>) {
    if (specialization == Computed::no) {
      Op without_gram = op;
      without_gram.gram = {};
      return behind.run(without_gram);
    }
  }
  behind.run(op);
}
}  // namespace

#define STRAND_FORWARD(Name, family)                  \
  void TermSwitch::run(const Name& op) {              \
    forward(behind_, op, specialization_, coupling_); \
  }
STRAND_FOR_EACH_OP(STRAND_FORWARD)
#undef STRAND_FORWARD

}  // namespace strand
