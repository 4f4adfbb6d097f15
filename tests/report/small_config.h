#pragma once
// A configuration small enough to count by hand: V 16, D 8, L 2, H 2, A 4, E 4, K 2, F 16; steps of 2 micro-steps of
// 2 sequences of 8 tokens.
#include "config/config.h"

namespace strand_test {

inline strand::Config small_config() {
  strand::Config c;
  c.model = {.vocab_size = 16, .hidden_size = 8, .num_layers = 2, .num_heads = 2, .num_kv_heads = 2, .head_dim = 4};
  c.moe = {.num_experts = 4, .top_k = 2, .expert_ffn = 16};
  c.losses = {.lb_weight = 1e-2, .z_weight = 1e-3, .sp_weight = 2e-3, .cp_weight = 1e-3};
  c.data.sequence_length = 8;
  c.train.steps = 10;
  c.train.global_batch_size = 4;
  c.train.micro_batch_size = 2;
  return c;
}

/// The configuration as the program reads it.
inline constexpr const char* small_yaml = R"(
model: {vocab_size: 16, hidden_size: 8, num_layers: 2, num_heads: 2}
moe: {num_experts: 4, top_k: 2, expert_ffn: 16}
losses: {lb_weight: 1e-2, z_weight: 1e-3, sp_weight: 2e-3, cp_weight: 1e-3}
data: {sequence_length: 8}
train: {steps: 10, global_batch_size: 4, micro_batch_size: 2}
run: {threads: 2}
)";

}  // namespace strand_test
