// Every operation of real steps and of generation refuses each of its tensors with one dimension too large or of
// another type, unless it is listed below why it may be so. shape_spy.h makes the changes.
#include <cstddef>

#include "infer/generate.h"
#include "kernels/cpu/backend.h"
#include "shape_spy.h"
#include "tests/catch.h"
#include "tests/model/harness.h"
#include "tests/parallel/thread_grid.h"

namespace strand::test {
namespace {

struct Seen {
  Accepted accepted;
  std::set<std::string> operations;
};

void train(const Config& config, int ranks, Seen& seen) {
  run_ranks(ranks, ranks, [&](ProcessGrid& grid) {
    ShapeSpy ops(make_cpu_ops());
    const SessionShape shape{Purpose::training, 2, 6};
    Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
    session.parameters().initialize(ops, 7);
    StepRunner runner(session);
    const StepData data = random_batch(config, 2, 6, uint64_t(grid.rank()));
    runner.step(data, {.losses = config.losses}, 0,
                {.optimizer = config.optimizer, .learning_rate = 1e-3, .size = UpdateSize::measured});
    runner.take_result();
    if (grid.rank() != 0) return;
    seen.accepted.merge(ops.accepted);
    seen.operations.merge(ops.seen);
  });
}

void continue_text(const Config& config, Seen& seen) {
  ShapeSpy ops(make_cpu_ops());
  ProcessGrid self;
  const SessionShape shape{Purpose::generation, 2, 12};
  Session session(ops, self, config, shape, plan_session(config, shape, ops.device().traits()));
  session.parameters().initialize(ops, 7);
  generate(session, {{1, 2, 3}, {4}}, {.max_tokens = 3});
  seen.accepted.merge(ops.accepted);
  seen.operations.merge(ops.seen);
}

/// What is accepted for a reason. The numbers that it leaves free are of no other tensor of the operation.
Accepted accepted_for_a_reason() {
  Accepted free;
  const auto any = [&](const char* operation, size_t offset, std::initializer_list<const char*> changes) {
    for (const std::string change : changes)
      if (change.starts_with("dimension"))
        for (const char* way : {" larger", " smaller"}) free.insert(key(operation, offset, change + way));
      else
        free.insert(key(operation, offset, change));
  };
#define STRAND_FREE(Op, field, ...) any(#Op, offsetof(Op, field), {__VA_ARGS__})
  // Operations that take tensors of any shape.
  STRAND_FREE(Zero, x, "dimension 0", "type", "other floating-point type");
  STRAND_FREE(SumOfSquares, x, "dimension 0", "other floating-point type");
  STRAND_FREE(SpecializationTerm, gram, "dimension 0", "other floating-point type");
  STRAND_FREE(OrthogonalityTerm, gram, "dimension 0", "other floating-point type");
  // How many terms, words, groups and experts there are, and how many experts a token has, is said by one tensor alone.
  STRAND_FREE(ClipGradient, terms, "dimension 0");
  STRAND_FREE(Embedding, table, "dimension 0");
  STRAND_FREE(EmbeddingBackward, dtable, "dimension 0");
  STRAND_FREE(RouterTerms, statistics, "dimension 1");
  STRAND_FREE(RouterBackward, statistics, "dimension 1");
  STRAND_FREE(RoutingStatistics, statistics, "dimension 1");
  STRAND_FREE(RoutingStatistics, selected, "dimension 1");
  STRAND_FREE(CouplingMasses, probs, "dimension 1");
  STRAND_FREE(CouplingJoint, lower_selected, "dimension 1");
  STRAND_FREE(CouplingJointBackward, lower_selected, "dimension 1");
  STRAND_FREE(ArrivalMap, counts, "dimension 0", "dimension 1");
  STRAND_FREE(SampledSlots, counts, "dimension 0");
  STRAND_FREE(SortSlots, map.offsets, "dimension 0");
  STRAND_FREE(DispatchRows, map.offsets, "dimension 0");
  STRAND_FREE(Swiglu, map.offsets, "dimension 0");
  STRAND_FREE(SwigluBackward, map.offsets, "dimension 0");
  STRAND_FREE(CombineRows, map.offsets, "dimension 0");
  STRAND_FREE(CombineBackward, map.offsets, "dimension 0");
  STRAND_FREE(DispatchRows, map.row_of_slot, "dimension 1");
  STRAND_FREE(CombineRows, map.row_of_slot, "dimension 1");
  STRAND_FREE(Swiglu, map.row_of_slot, "dimension 0", "dimension 1");
  // Rows that indices choose from, as many as there are; widths of rows of which only inner products are taken.
  STRAND_FREE(GatherRows, from, "dimension 0");
  STRAND_FREE(GatherRows, via, "dimension 0", "dimension 1");
  STRAND_FREE(SlotGram, rows, "dimension 0", "dimension 1");
  STRAND_FREE(SwigluBackward, dz_pairs, "dimension 0");
  STRAND_FREE(ArrivalMap, arrival_of_packed, "dimension 0");
  STRAND_FREE(SortSlots, map.slot_of_row, "dimension 0");
  // Projections that lie side by side in one matrix, of which an operation sees its own columns.
  STRAND_FREE(LatentNorm, x, "dimension 1");
  STRAND_FREE(SplitLatentHeads, queries, "dimension 1");
  STRAND_FREE(SplitLatentHeads, shared_key, "dimension 1");
  STRAND_FREE(SplitLatentHeadsBackward, dqueries, "dimension 1");
  STRAND_FREE(SplitLatentHeadsBackward, dshared_key, "dimension 1");
  STRAND_FREE(AbsorbKeys, queries, "dimension 1");
  STRAND_FREE(LatentCacheHeads, queries, "dimension 1");
  STRAND_FREE(LatentCacheHeads, shared_key, "dimension 1");
  // Sequences and positions of a cache that has no values. Of one that has, `values` is still held to them.
  STRAND_FREE(CacheAppend, keys, "dimension 0", "dimension 2");
  STRAND_FREE(CacheAttention, keys, "dimension 0", "dimension 2");
  // Tables that may be longer than a sequence.
  STRAND_FREE(SplitLatentHeads, rotary, "dimension 0");
  STRAND_FREE(SplitLatentHeadsBackward, rotary, "dimension 0");
  STRAND_FREE(LatentCacheHeads, rotary, "dimension 0");
  STRAND_FREE(SplitHeads, rotary, "dimension 0");
  STRAND_FREE(SplitHeadsBackward, rotary, "dimension 0");
#undef STRAND_FREE
  return free;
}

TEST_CASE("No operation accepts a tensor with one wrong dimension or of another type") {
  Seen seen;
  Config config = every_part_config(Precision::fp32);
  config.run.precision = GENERATE(Precision::fp32, Precision::bf16);
  for (const int ranks : {1, 2}) {
    train(config, ranks, seen);
    Config batch = config;
    batch.losses.cp_paths = CouplingPaths::batch;
    batch.losses.sp_token_fraction = 0.4;
    batch.moe.score = RouterScore::sigmoid;
    batch.model.qk_norm = QkNorm::head;
    train(batch, ranks, seen);
  }
  continue_text(config, seen);
  Config latent = config;
  latent.model.qk_norm = QkNorm::none;
  use_latent_attention(latent, 3);
  train(latent, 1, seen);
  continue_text(latent, seen);
  const Accepted expected = accepted_for_a_reason();
  for (const std::string& change : seen.accepted) {
    INFO("accepted: " << change);
    CHECK(expected.contains(change));
  }
#define STRAND_WAS_SEEN(Name, family) \
  if (std::string(#Name) != "Cast") CHECK(seen.operations.contains(#Name));  // of tests alone
  STRAND_FOR_EACH_OP(STRAND_WAS_SEEN)
#undef STRAND_WAS_SEEN
}

}  // namespace
}  // namespace strand::test
