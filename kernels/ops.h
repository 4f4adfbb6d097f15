#pragma once
// What every backend can do. An *operation* is a struct: its fields are tensors (views) with `[shape] type` comments,
// its comment is its mathematics. A *backend* is a class with one `run` overload an operation. Model code writes
//
//     ops(Linear{.x = normed, .weight = w_qkv, .y = qkv});
//
// holds an `Ops&` and never asks which backend it is. Every call is checked (shapes, types) in one place for all
// backends, and may be asynchronous: it enqueues its work on the compute stream of the device (kernels/device.h) that
// the operations were made from, and returns. No operation waits for the device or reads from it.
//
// Types: `act` is the type of activations and of the weights inside GEMMs: bf16, f32 or f64. `acc` is the type of
// everything that accumulates or decides: f64 when act is f64, else f32. Gradients of weights, the residual stream and
// its gradient, norms, the router, softmax statistics and losses are acc. Scalar sums are f64.
//
// Letters: T tokens (B sequences of S), D model width, H query heads, G key/value heads, A head width, V vocabulary,
// E experts, K experts a token, F expert width, R rows of the expert buffers, N sequences of C positions in a cache. A
// *slot* is a pair (token, k < K). (ops/exchange.h has letters of its own.)
#include <cstddef>
#include <cstdint>

#include "core/tensor.h"
#include "kernels/device.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/cache.h"
#include "kernels/ops/coupling.h"
#include "kernels/ops/exchange.h"
#include "kernels/ops/experts.h"
#include "kernels/ops/head.h"
#include "kernels/ops/latent.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/optimizer.h"
#include "kernels/ops/router.h"
#include "kernels/ops/step_numbers.h"
#include "kernels/ops/vocabulary.h"

namespace strand {

/// Where time and FLOPs are booked (`strand bench`, `strand plan`).
enum class OpFamily : uint8_t {
  attention,
  router,
  sort,
  expert_gemm,
  dense_gemm,
  swiglu,
  combine,
  head_loss,
  norm,
  optimizer,
  other,
};
constexpr int op_family_count = 11;
const char* to_string(OpFamily family);

/// Every operation and its family, for writing something once for all of them.
#define STRAND_FOR_EACH_OP(X)                 \
  X(Linear, dense_gemm)                       \
  X(LinearBackwardInput, dense_gemm)          \
  X(LinearBackwardWeight, dense_gemm)         \
  X(GroupedLinear, expert_gemm)               \
  X(GroupedLinearBackwardInput, expert_gemm)  \
  X(GroupedLinearBackwardWeight, expert_gemm) \
  X(AddRmsNorm, norm)                         \
  X(RmsNormBackward, norm)                    \
  X(SplitHeads, attention)                    \
  X(SplitHeadsBackward, attention)            \
  X(Attention, attention)                     \
  X(AttentionBackward, attention)             \
  X(LatentNorm, norm)                         \
  X(LatentNormBackward, norm)                 \
  X(SplitLatentHeads, attention)              \
  X(SplitLatentHeadsBackward, attention)      \
  X(AbsorbKeys, attention)                    \
  X(ExpandValues, attention)                  \
  X(LatentCacheHeads, attention)              \
  X(CacheAppend, attention)                   \
  X(CacheAttention, attention)                \
  X(RouterLinear, router)                     \
  X(RouterLinearBackward, router)             \
  X(Route, router)                            \
  X(RoutingStatistics, router)                \
  X(RouterTerms, router)                      \
  X(RouterBackward, router)                   \
  X(CouplingMasses, router)                   \
  X(CouplingTokenTerm, router)                \
  X(CouplingJoint, router)                    \
  X(CouplingSelect, router)                   \
  X(CouplingJointBackward, router)            \
  X(RouterBiasUpdate, router)                 \
  X(SortSlots, sort)                          \
  X(DispatchRows, combine)                    \
  X(Swiglu, swiglu)                           \
  X(SwigluBackward, swiglu)                   \
  X(SpecializationTerm, swiglu)               \
  X(CombineRows, combine)                     \
  X(OrthogonalityTerm, combine)               \
  X(CombineBackward, combine)                 \
  X(SortForExchange, sort)                    \
  X(SampledSlots, sort)                       \
  X(ArrivalMap, sort)                         \
  X(GatherRows, combine)                      \
  X(SlotGram, combine)                        \
  X(SpecializationBackward, combine)          \
  X(CrossEntropy, head_loss)                  \
  X(Embedding, other)                         \
  X(EmbeddingBackward, other)                 \
  X(SumOfSquares, optimizer)                  \
  X(ClipGradient, optimizer)                  \
  X(AdamW, optimizer)                         \
  X(SumOfUpdates, optimizer)                  \
  X(Zero, other)                              \
  X(Copy, other)                              \
  X(Cast, optimizer)

/// Seconds and calls an operation family has taken; filled only while an OpProfile is attached.
struct OpProfile {
  double seconds[op_family_count] = {};
  int64_t calls[op_family_count] = {};
};

class Ops {
 public:
  explicit Ops(Device& device) : device_(device) {}
  virtual ~Ops() = default;

  /// Checks the arguments (throws Error naming operation and field), then runs the operation.
  template <typename Op>
  void operator()(const Op& op) {
    op.check();
    if (WorkTrail* trail = device_.trail()) trail->operation(name_of(static_cast<const Op*>(nullptr)));
    if (profile_ == nullptr) return run(op);
    const double start = profile_start();
    run(op);
    profile_stop(op, start);
  }

  virtual const char* name() const = 0;
  /// Where these operations run. It outlives them.
  Device& device() const { return device_; }

  /// Takes memory for operations that work in as many bytes beside their tensors (kernels/op_workspaces.h). Without it,
  /// or with less of it, the first operation that needs more takes it. Throws Error when there is not enough.
  virtual void reserve_workspace(size_t /*bytes*/) {}

  /// From here on, dense products are booked on `family` (FamilyScope: the head's are LinearXxx like any other).
  void book_dense_gemm_as(OpFamily family) { dense_gemm_as_ = family; }
  /// While set, each operation waits for its end and its time is added up. nullptr detaches.
  void attach_profile(OpProfile* profile) { profile_ = profile; }
  OpProfile* profile() const { return profile_; }

#define STRAND_DECLARE_RUN(Name, family) virtual void run(const Name&) = 0;
  STRAND_FOR_EACH_OP(STRAND_DECLARE_RUN)
#undef STRAND_DECLARE_RUN

 private:
  double profile_start();
  template <typename Op>
  void profile_stop(const Op&, double start) {
    book(family_of(static_cast<const Op*>(nullptr)), start);
  }
  void book(OpFamily family, double start);
#define STRAND_FAMILY_OF(Name, family)               \
  static constexpr OpFamily family_of(const Name*) { \
    return OpFamily::family;                         \
  }
  STRAND_FOR_EACH_OP(STRAND_FAMILY_OF)
#undef STRAND_FAMILY_OF
#define STRAND_NAME_OF(Name, family)                  \
  static constexpr const char* name_of(const Name*) { \
    return #Name;                                     \
  }
  STRAND_FOR_EACH_OP(STRAND_NAME_OF)
#undef STRAND_NAME_OF

  Device& device_;
  OpProfile* profile_ = nullptr;

 protected:
  OpFamily dense_gemm_as_ = OpFamily::dense_gemm;
};

/// Books dense GEMMs on another family while it lives (the head's).
class FamilyScope {
 public:
  FamilyScope(Ops& ops, OpFamily family) : ops_(ops) { ops_.book_dense_gemm_as(family); }
  ~FamilyScope() { ops_.book_dense_gemm_as(OpFamily::dense_gemm); }
  FamilyScope(const FamilyScope&) = delete;
  FamilyScope& operator=(const FamilyScope&) = delete;

 private:
  Ops& ops_;
};

}  // namespace strand
