#include "train/nonfinite.h"

#include <cmath>

namespace strand {

namespace {
bool finite(Session& session, const Tensor& x) {
  const Tensor number = session.number_buffer();
  double sum = 0;
  session.ops()(Zero{number});
  session.ops()(SumOfSquares{.x = x, .sum = number});
  session.device().download(number, &sum);
  return std::isfinite(sum);
}

std::string first_part(Session& session, Tensor OwnedPart::*field, const std::string& what) {
  for (const Parameter& p : session.parameters().all()) {
    for (const LogicalTensor& part : p.logical) {
      const ElementRange mine = intersection(part.range(), p.owned.range);
      if (mine.elements == 0) continue;
      const int64_t first = mine.first - p.owned.range.first;
      if (!finite(session, (p.owned.*field).rows(first, first + mine.elements))) return what + part.name;
    }
  }
  return "";
}

std::string first_stream(Session& session) {
  for (const auto& [name, stream] : session.transformer().residual_streams())
    if (!finite(session, stream)) return "activation " + name;
  return "";
}

/// Of the ranks that found something, what the lowest one found.
std::string first_of_ranks(Session& session, const std::string& mine) {
  for (const std::string& found : session.grid().control().all_gather(mine))
    if (!found.empty()) return found;
  return "";
}
}  // namespace

std::string nonfinite_weight(Session& session) {
  return first_of_ranks(session, first_part(session, &OwnedPart::master, "weight "));
}

std::string find_nonfinite(Session& session) {
  if (const std::string found = nonfinite_weight(session); !found.empty()) return found;
  if (const std::string found = first_of_ranks(session, first_stream(session)); !found.empty()) return found;
  return first_of_ranks(session, first_part(session, &OwnedPart::gradient, "gradient of "));
}

}  // namespace strand
