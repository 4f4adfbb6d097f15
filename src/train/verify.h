#pragma once
// Replays a reference file on a backend and compares every quantity in it: `strand verify`.
#include <string>
#include <vector>

#include "model/context.h"
#include "train/reference_case.h"

namespace strand {

/// How far a result may be from the stored one.
/// fp64 and fp32: each tensor by itself; its error is the largest difference over the largest magnitude stored, and
/// where that is below 1e-7 (exact zeros) the values themselves must stay below 1e-6. Parameters after the trajectory:
/// 2-norm of (got − stored) over 2-norm of (stored − initial). Choices of experts must be equal. bf16: each group of
/// tensors as one vector, 2-norm of the difference over 2-norm of the stored. Rounding may tip a nearly tied choice of
/// expert, and then one token's share of two experts' gradients is elsewhere: much of the tensor of an expert with
/// three tokens, little of the whole gradient.
struct VerifyTolerance {
  enum class Measure : uint8_t { each_tensor, whole_group };
  Measure measure = Measure::each_tensor;
  double output = 0;         ///< out.*, traj.{loss, ce}, and the first of traj.grad_norm, before any update
  double gradient = 0;       ///< grad.*, termgrad.*
  double gradient_norm = 0;  ///< traj.grad_norm after the first update
  double movement = 0;       ///< traj.param.*
  double selection = 0;      ///< share of choices that may differ

  static VerifyTolerance of(Precision precision);
};

/// One line of the report, on the worst tensor of a group of quantities.
struct VerifyRow {
  std::string quantity;  ///< "grad (31 tensors)"
  std::string worst;     ///< the tensor with the largest error over its tolerance
  double error = 0;
  double tolerance = 0;
  bool pass = true;
};

struct VerifyReport {
  std::string case_name;
  std::vector<VerifyRow> rows;
  bool pass() const;
};

/// On several ranks each takes its part of every micro-step of the file, in the order of ranks; what is compared is
/// gathered, so the report is the same on all of them. Throws Error when the file cannot be replayed at all (another
/// format, a shape that does not fit, micro-steps or experts that do not divide by the ranks).
VerifyReport verify_case(const ReferenceCase& reference, Ops& ops, ProcessGrid& grid, Precision precision);

std::string format_report(const VerifyReport& report);

}  // namespace strand
