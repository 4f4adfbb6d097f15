// What the kernels of the CUDA backend are not written for is refused, with the operation, the number and the limit.
#include "harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
template <typename Op>
void require_refused(Stage& s, const Op& op, const std::string& message) {
  std::string said;
  try {
    s.run(op);
  } catch (const Error& error) {
    said = error.what();
  }
  INFO(said);
  CHECK(said.find(message) != std::string::npos);
}
}  // namespace

TEST_CASE("heads of more than 256 elements are refused") {
  const HeadLayout l{.sequences = 1, .tokens = 2, .heads = 2, .kv_heads = 1, .head_dim = 257};
  const Shape q{1, 2, 2, 257}, kv{1, 1, 2, 257}, rows{2, 2 * 257}, statistics{1, 2, 2};
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    const Attention forward{.layout = l,
                            .q = s.act("q", q),
                            .k = s.act("k", kv),
                            .v = s.act("v", kv),
                            .out = s.act_out(rows),
                            .lse = s.acc_out(statistics)};
    require_refused(s, forward, "Attention: 257 elements of a head");
    require_refused(s,
                    AttentionBackward{.layout = l,
                                      .q = forward.q,
                                      .k = forward.k,
                                      .v = forward.v,
                                      .out = forward.out,
                                      .lse = forward.lse,
                                      .dout = s.act("dout", rows),
                                      .delta = s.acc_out(statistics),
                                      .dq = s.act_out(q),
                                      .dk = s.act_out(kv),
                                      .dv = s.act_out(kv)},
                    "AttentionBackward: 257 elements of a head");
    CHECK(s.broken_guard().empty());
  }
}

TEST_CASE("rows of a cache of more than 768 elements are refused") {
  const HeadLayout l{.sequences = 1, .tokens = 2, .heads = 2, .kv_heads = 1, .head_dim = 769};
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    require_refused(s,
                    CacheAttention{.layout = l,
                                   .q = s.act("q", {1, 2, 2, 769}),
                                   .places = {.sequence = s.ids_of({2}, {0, 0}), .position = s.ids_of({2}, {0, 1})},
                                   .keys = s.act("keys", {1, 1, 4, 769}),
                                   .values = s.act("values", {1, 1, 4, 769}),
                                   .out = s.act_out({2, 2 * 769})},
                    "CacheAttention: 769 elements of a head");
    CHECK(s.broken_guard().empty());
  }
}
