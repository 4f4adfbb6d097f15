#pragma once
// Numbers of the whole model on every rank, by logical name: for verification and tests, not for steps.
#include <map>
#include <string>
#include <vector>

#include "model/session.h"

namespace strand {

/// Elements of `field` (the master copy, the gradient once it is reduced, or a moment) of every logical tensor of the
/// global model, in row-major order. All ranks call it, and all receive everything.
std::map<std::string, std::vector<double>> gather_logical(Session& session, Tensor OwnedPart::*field);

/// What all of them are called, and their shapes. No message is needed.
std::map<std::string, Shape> logical_shapes(Session& session);

/// The numbers of all ranks, one rank's after the other.
std::vector<double> gather_values(ControlChannel& group, const std::vector<double>& mine);

}  // namespace strand
