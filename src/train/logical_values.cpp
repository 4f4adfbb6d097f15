#include "train/logical_values.h"

#include <cstring>

#include "kernels/staging.h"

namespace strand {

namespace {
std::vector<std::vector<double>> gather_by_rank(ControlChannel& group, const std::vector<double>& mine) {
  const std::string bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(double));
  std::vector<std::vector<double>> all;
  for (const std::string& theirs : group.all_gather(bytes)) {
    all.emplace_back(theirs.size() / sizeof(double));
    if (!theirs.empty()) std::memcpy(all.back().data(), theirs.data(), theirs.size());
  }
  return all;
}

/// The logical tensors of each stored parameter on the ranks that stand at place `expert_rank` of an expert group.
std::vector<std::vector<LogicalTensor>> names_at(Session& session, int expert_rank) {
  GridShape shape = session.grid().shape();
  shape.rank = expert_rank;
  Arena paper = Arena::counting("names");
  const Config& config = session.config();
  const Parameters there(paper, config, NumberTypes::of(config.run.precision), session.shape().purpose, shape);
  std::vector<std::vector<LogicalTensor>> names;
  for (const Parameter& p : there.all()) names.push_back(p.logical);
  return names;
}
}  // namespace

std::map<std::string, Shape> logical_shapes(Session& session) {
  std::map<std::string, Shape> shapes;
  for (int e = 0; e < session.grid().expert_parallel(); ++e)
    for (const std::vector<LogicalTensor>& parts : names_at(session, e))
      for (const LogicalTensor& part : parts) shapes.emplace(part.name, part.shape);
  return shapes;
}

std::vector<double> gather_values(ControlChannel& group, const std::vector<double>& mine) {
  std::vector<double> all;
  for (const std::vector<double>& theirs : gather_by_rank(group, mine))
    all.insert(all.end(), theirs.begin(), theirs.end());
  return all;
}

std::map<std::string, std::vector<double>> gather_logical(Session& session, Tensor OwnedPart::*field) {
  const GridShape shape = session.grid().shape();
  std::vector<std::vector<std::vector<LogicalTensor>>> names;  // by expert rank, parameter
  for (int e = 0; e < shape.expert_parallel; ++e) names.push_back(names_at(session, e));
  std::map<std::string, std::vector<double>> values;
  const std::vector<Parameter>& parameters = session.parameters().all();
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    const Tensor mine = p.owned.*field;
    const std::vector<std::vector<double>> by_rank =
        gather_by_rank(session.grid().control(), mine ? download_values(session.ops(), mine) : std::vector<double>{});
    // The owners of a parameter hold consecutive parts of it, in the order of their ranks.
    const int copies = p.space == ParameterSpace::experts ? shape.expert_parallel : 1;
    for (int e = 0; e < copies; ++e) {
      std::vector<double> stored;
      for (auto r = static_cast<size_t>(e); r < by_rank.size(); r += static_cast<size_t>(copies))
        stored.insert(stored.end(), by_rank[r].begin(), by_rank[r].end());
      for (const LogicalTensor& part : names[static_cast<size_t>(e)][i])
        values[part.name].assign(stored.begin() + part.offset, stored.begin() + part.range().end());
    }
  }
  return values;
}

}  // namespace strand
