#include "export/requirements.h"

namespace strand::hf {

Requirement score(RouterScore score) {
  if (score == RouterScore::softmax)
    return {"moe.score: softmax", [](const Config& c) { return c.moe.score == RouterScore::softmax; }};
  return {"moe.score: sigmoid", [](const Config& c) { return c.moe.score == RouterScore::sigmoid; }};
}

Requirement qk_norm(QkNorm norm) {
  if (norm == QkNorm::none)
    return {"model.qk_norm: none", [](const Config& c) { return c.model.qk_norm == QkNorm::none; }};
  if (norm == QkNorm::head)
    return {"model.qk_norm: head", [](const Config& c) { return c.model.qk_norm == QkNorm::head; }};
  return {"model.qk_norm: full", [](const Config& c) { return c.model.qk_norm == QkNorm::full; }};
}

std::vector<std::string> unmet(const std::vector<Requirement>& requirements, const Config& config) {
  std::vector<std::string> wanted;
  for (const Requirement& r : requirements)
    if (!r.met(config)) wanted.push_back(r.wanted);
  return wanted;
}

}  // namespace strand::hf
