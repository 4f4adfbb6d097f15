#pragma once
// How the rows of tokens come to the experts of a MoE layer and back, chosen once when the model is built. Where all
// experts are on this rank, nothing travels. Where they are spread over the ranks of an expert group, rows do:
//
//                 home                                    rank of the experts
//   forward       x ──────── dispatch ──────────────────→ gate_up, z, y = z W_down
//                 out = Σ g y, O ←──────── combine ────── y
//                 SP, its gradient ←─ specialization ──── z
//   backward      ∂out, g ── dispatch ──────────────────→ ∂z = g ∂out W_down + SP's; ∂gate_up; ∂x; ∂W
//                 SP's gradient ── specialization ──────→
//                 ∂x, ∂g ←──────────────── combine ────── ∂x, ∂g
//
// *Home rows* are those of this rank's own tokens, sorted by expert (Routing::map). A *part* is some of this rank's
// experts with the rows that came to them: all experts where nothing travels, else those of one chunk
// (parallel/row_exchange.h). While one part is computed, the rows of the next arrive and those of the one before go
// home. With parallel.overlap off each journey is waited for at once; operations and their order are the same, so the
// bits are too. SP stays exact: z rows travel home beside the outputs, where all rows of a token meet, and SP's
// gradient of them travels back beside that of the outputs.
#include <memory>
#include <vector>

#include "model/context.h"
#include "model/feed_forward.h"
#include "model/routing.h"

namespace strand {

/// What the forward pass of one part keeps for its backward pass.
struct ExpertPart {
  int64_t first_expert = 0, experts = 0;  ///< among this rank's own
  int64_t slots = 0;                      ///< rows without padding
  RowMap map;      ///< slots ↔ R rows sorted by expert; a row that arrived is a token of one slot
  Tensor gate_up;  ///< [R, 2F] act; backward overwrites it
  // Where rows travel, A rows arrive, of which S are of sampled tokens. Where nothing travels, these are none:
  Tensor x;                  ///< [R, D] act, sorted by expert
  Tensor expert_of_arrival;  ///< [A, 1] i32
  Tensor packed_of_arrival;  ///< [A] i32
  Tensor arrival_of_packed;  ///< [S] i32

  /// The weights of the part's experts. `weights` holds those of all experts of this rank.
  Tensor of(const Tensor& weights) const { return weights.rows(first_expert, first_expert + experts); }
};

struct ExpertsKept {
  std::vector<ExpertPart> parts;
  Tensor y;         ///< [home rows, D] act, the experts' outputs; there when O has a gradient
  Tensor dz_pairs;  ///< [packed home rows, F] act, SP's gradient of z; there when SP has one and rows travel
};

/// Gram matrices of the rows of each token's experts, for the terms that look at pairs of them. None where K = 1 or no
/// such term is measured. They are small and kept under every kind of recomputation.
struct PairGrams {
  Tensor z;  ///< [T, K, K] acc, of the experts' z (SP)
  Tensor y;  ///< [T, K, K] acc, of their outputs (O)
};

/// The experts of one layer in one micro-step, as all passes over them need them.
struct ExpertLayer {
  const LayerTensors& w;
  const Routing& routing;
  const ExpertsKept& kept;
  const FeedForwardKept& shared;      ///< of the shared expert; its tensor is none where there is no such expert
  Tensor x;                           ///< [T, D] act
  PairGrams grams;                    ///< none in generation
  const LossContext* loss = nullptr;  ///< none in generation
};

/// The first forward pass of a layer, or a second one that recomputes what backward needs.
enum class ForwardPass : uint8_t { first, again };

/// One forward pass of a layer. The tensors that only this pass needs come from scratch, in the scope of the caller.
struct ForwardRows {
  const ExpertLayer& layer;
  ForwardPass pass = ForwardPass::first;
  Tensor x;  ///< [home rows, D] act: what is dispatched
  Tensor y;  ///< [home rows, D] act: where outputs come back, may be the memory of x; none: they are not wanted
  Tensor z;  ///< [packed home rows, F] act: where z comes back, set by begin(); none where it does not travel
};

/// The rows of one part on their way through the experts.
struct PartRows {
  Tensor x;     ///< [R, D] act, sorted by expert
  Tensor y;     ///< [R, D] act: where the outputs go; none: they are not wanted
  Tensor gram;  ///< [T, K, K] acc, to be taken of the part's z; none where rows travel, or nobody needs it
};

/// One backward pass of a layer. The tensors that only this pass needs come from scratch, in the scope of the caller.
struct BackwardRows {
  const ExpertLayer& layer;
  Tensor dy;      ///< [home rows, D] act: gradient of the outputs, or of the weighted sum when `dgates` is there
  Tensor dgates;  ///< [T, K] acc, to be written: the routing weights enter at the experts; none: they are in dy
  Tensor dx;      ///< [home rows, D] act: where the gradient of x comes back, set by begin()
};

struct PartGradients {
  Tensor dy;              ///< [R, D] act, sorted by expert; free once the gradient of W_down has read it
  Tensor dx;              ///< [R, D] act: where the gradient of the part's x goes
  SwigluBackward swiglu;  ///< map, routing weights and SP's part; the rest is the caller's
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;

  // ---- routing
  /// Allocates Routing::map and, where rows travel, what counts them.
  virtual void allocate_maps(Context& c, Routing& r) = 0;
  /// Fills Routing::map from the selection that `r` holds. Where rows travel, it also counts them, and the counts begin
  /// their journey to the ranks of their experts.
  virtual void sort(Context& c, const TokenSample& sample, const Routing& r) = 0;
  /// Learns how many rows come to this rank. Where rows travel, this is the only time that the host reads what the
  /// device computed: it waits for the copy of the counts, which goes by a stream of its own, and not for what was
  /// enqueued on the compute stream since sort(). Everything below needs it.
  virtual void count(Context& c, const TokenSample& sample, Routing& r) = 0;
  /// Rows that the experts of this rank compute, without padding.
  virtual int64_t rows_here(const Routing& r) const = 0;

  // ---- memory
  /// Allocates the parts from `arena`, which is the step arena, or scratch when nothing is kept.
  virtual std::vector<ExpertPart> allocate_parts(Context& c, Arena& arena, const Routing& r) = 0;
  /// Allocates ExpertsKept::dz_pairs.
  virtual Tensor allocate_pairs(Context& c, const Routing& r) = 0;

  // ---- forward: begin, then for each part in turn receive, return_z and return_y, then finish
  /// Sends the rows on their journey to the experts.
  virtual void begin(Context& c, ForwardRows& rows) = 0;
  /// Waits for the rows of a part and sorts them.
  virtual PartRows receive(Context& c, const ForwardRows& rows, size_t part) = 0;
  /// z [R, F] and y of the part are there and begin their journey home.
  virtual void return_z(Context& c, const ForwardRows& rows, size_t part, const Tensor& z) = 0;
  virtual void return_y(Context& c, const ForwardRows& rows, size_t part, const Tensor& y) = 0;
  /// Waits for all that comes home; then PairGrams::z is there and, where rows travel, SP's gradient of z.
  virtual void finish(Context& c, const ForwardRows& rows) = 0;

  // ---- backward: begin, then for each part in turn receive, return_dx and x_again, then finish
  virtual void begin(Context& c, BackwardRows& rows) = 0;
  virtual PartGradients receive(Context& c, const BackwardRows& rows, size_t part) = 0;
  virtual void return_dx(Context& c, const BackwardRows& rows, size_t part, const PartGradients& gradients) = 0;
  /// The x that the part had in forward, [R, D] act; `memory` [R, D] may be written.
  virtual Tensor x_again(Context& c, const ExpertLayer& layer, size_t part, const Tensor& memory) = 0;
  /// Waits for all that comes home; then BackwardRows::dx and dgates are there.
  virtual void finish(Context& c, const BackwardRows& rows) = 0;
};

/// Makes the dispatcher that the grid's expert groups need. `experts` is the number in a layer, on all ranks together.
std::unique_ptr<Dispatcher> make_dispatcher(const ProcessGrid& grid, Device& device, int64_t experts);
std::unique_ptr<Dispatcher> make_local_dispatcher();
std::unique_ptr<Dispatcher> make_spread_dispatcher(Device& device, int64_t experts);

}  // namespace strand
