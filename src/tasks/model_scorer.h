#pragma once
// A model as a scorer: texts are encoded, divided over the processes of a run, each of which has the whole model, and
// scored with contexts that are computed once.
#include <functional>

#include "parallel/control_channel.h"
#include "tasks/encoding.h"

namespace strand {

struct ModelScorerOptions {
  /// Tokens of a pass, and positions in the cache, at most; one request always fits.
  int64_t pass_tokens = 4096;
};

class ModelScorer final : public Scorer {
 public:
  /// Makes the model ready for requests of such a shape.
  using OpenSession = std::function<Session&(const SessionShape& shape)>;

  /// `all` are the processes of the run, which make the same calls. All references outlive the scorer.
  ModelScorer(const RequestEncoder& encoder, OpenSession open, ControlChannel& all, ModelScorerOptions options = {});

  /// From now on `on_progress` is called with the progress of this process's requests; none = not any more.
  void tell(std::function<void(const ScoringProgress&)> on_progress) { on_progress_ = std::move(on_progress); }
  /// The same on every process.
  std::vector<TokenScore> score(std::span<const TextRequest> requests) override;

  int64_t cut() const { return cut_; }  ///< requests so far whose contexts were too long, of all processes

 private:
  const RequestEncoder& encoder_;
  OpenSession open_;
  ControlChannel& all_;
  ModelScorerOptions options_;
  std::function<void(const ScoringProgress&)> on_progress_;
  int64_t cut_ = 0;
};

}  // namespace strand
