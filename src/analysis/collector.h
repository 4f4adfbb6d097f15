#pragma once
// Looks at forward passes and takes from them what the analysis of routing needs: the trace, and the sums of what is
// not counted but computed from probabilities, activations and the router's inputs (docs/analysis.md). Works on every
// device: numbers come to the host layer by layer, one micro-step at a time.
#include <optional>
#include <vector>

#include "analysis/expert_weights.h"
#include "analysis/geometry.h"
#include "analysis/kmeans.h"
#include "analysis/overlap.h"
#include "analysis/sharpness.h"
#include "analysis/trace.h"
#include "model/forward_observer.h"
#include "model/session.h"

namespace strand {

/// The numbers that were collected of one layer.
struct CollectedLayer {
  Sharpness sharpness;
  std::optional<Overlap> z, y;  ///< none when K = 1
  RouterCosine router;
  WeightCosines weights;
  ChoiceCosine choice;  ///< means
  Points inputs;        ///< of the router, for the tokens that are clustered; empty when none are
};

/// Whether the inputs that are clustered are divided by their length.
enum class InputLength : uint8_t { as_it_is, unit };

struct Collected {
  std::vector<CollectedLayer> layers;
  std::vector<InputCosine> input_cosines;  ///< [L − 1], means: of each layer and the one above
  std::vector<uint16_t> experts;           ///< [T, L, K]
  std::vector<uint16_t> guessed;           ///< [T, L − 1, K]: layer ℓ + 1's router on the input of layer ℓ's
  std::vector<int32_t> predicted;          ///< [T]
  std::vector<int64_t> clustered;          ///< tokens that CollectedLayer::inputs has, ascending
  InputLength input_length = InputLength::as_it_is;  ///< of CollectedLayer::inputs

  void scale_inputs_to_unit_length();
  /// The guesses that were made in layer `layer` for the layer above.
  Selections guesses(int64_t layer, int64_t experts_of_layer, int64_t top_k) const;
};

class RoutingCollector final : public ForwardObserver {
 public:
  /// `tokens` is how many will be seen, of which `clustered` ≤ tokens, spread evenly, have their inputs kept. The model
  /// has a layer with experts. Throws Error where experts are too many for a trace.
  RoutingCollector(Session& session, int64_t tokens, int64_t clustered);
  RoutingCollector(const RoutingCollector&) = delete;
  RoutingCollector& operator=(const RoutingCollector&) = delete;

  void chosen(int64_t layer, const Tensor& x, const Routing& routing) override;
  void predicted(int64_t first, const Tensor& logits) override;
  /// To be called after Transformer::evaluate of each micro-step, which had this observer and measured all terms.
  void end_micro_step();
  /// To be called once, when all tokens were seen.
  Collected take();

 private:
  struct Layer {
    Layer(int64_t experts, int64_t top_k) : sharpness(experts, top_k), z(experts), y(experts) {}
    SharpnessSum sharpness;
    OverlapSum z, y;
    ChoiceCosine choice;
    std::vector<double> router;        ///< [E, D]
    std::vector<double> router_norms;  ///< [E]
    Points inputs;
  };
  /// Memory on the device for the guesses of a micro-step.
  struct GuessBuffers {
    DeviceMemory logits, probs, selected, gates;
  };

  void take_choice(int64_t layer, const std::vector<double>& norms, const Routing& routing);
  void guess_above(int64_t layer, const Tensor& x);
  void keep_inputs(Layer& layer, const std::vector<double>& x);
  std::span<const uint16_t> chosen_by(int64_t layer, int64_t row) const;
  int64_t model_layer(int64_t layer) const;

  Session& session_;
  int64_t width_, experts_, top_k_, layers_;
  int64_t total_, clustered_;
  int64_t seen_ = 0;  ///< tokens of earlier micro-steps
  int64_t rows_ = 0;  ///< tokens of this one
  std::vector<Layer> layer_;
  std::vector<InputCosine> input_cosines_;
  std::vector<double> below_, below_norms_;  ///< the router's input of the layer below, in this micro-step
  GuessBuffers guess_;
  Collected collected_;
};

}  // namespace strand
