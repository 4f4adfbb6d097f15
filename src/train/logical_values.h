#pragma once
// Gathers numbers of the whole model on every rank, by logical name. This is for verification and tests, not for steps.
#include <map>
#include <string>
#include <vector>

#include "model/session.h"

namespace strand {

/// Elements of `field` (the master copy, the gradient once it is reduced, or a moment) of every logical tensor of the
/// global model, in row-major order. All ranks call it, and all receive everything.
std::map<std::string, std::vector<double>> gather_logical(Session& session, Tensor OwnedPart::*field);

/// The names and shapes of all logical tensors of the global model. No message is needed.
std::map<std::string, Shape> logical_shapes(Session& session);

/// Gathers the numbers of all ranks, those of one rank after those of the other.
std::vector<double> gather_values(ControlChannel& group, const std::vector<double>& mine);

}  // namespace strand
