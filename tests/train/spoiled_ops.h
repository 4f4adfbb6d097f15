#pragma once
// A backend that computes what another one computes, and then spoils one number: so a NaN appears with chosen
// sequences, whatever the weights are.
#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "kernels/ops.h"

namespace strand::test {

/// The tokens of micro-batches, each as long as its micro-batch.
using TokenBatches = std::set<std::vector<int32_t>>;

class SpoiledOps final : public Ops {
 public:
  /// Puts a NaN into the gradient of the embedding when it is that of one of `batches`. The operations work on host
  /// memory and outlive this object.
  SpoiledOps(Ops& operations, TokenBatches batches)
      : Ops(operations.device()), operations_(operations), batches_(std::move(batches)) {}

  const char* name() const override { return operations_.name(); }
  void reserve_workspace(size_t bytes) override { operations_.reserve_workspace(bytes); }

#define STRAND_FORWARD_RUN(Name, family) \
  void run(const Name& op) override {    \
    operations_(op);                     \
    spoil(op);                           \
  }
  STRAND_FOR_EACH_OP(STRAND_FORWARD_RUN)
#undef STRAND_FORWARD_RUN

 private:
  template <typename Op>
  void spoil(const Op&) {}
  void spoil(const EmbeddingBackward& op) {
    const int32_t* tokens = op.tokens.as<int32_t>();
    if (batches_.contains({tokens, tokens + op.tokens.elements()}))
      *op.dtable.as<float>() = std::numeric_limits<float>::quiet_NaN();
  }

  Ops& operations_;
  TokenBatches batches_;
};

}  // namespace strand::test
