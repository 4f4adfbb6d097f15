#pragma once
// The sizes of the blocks that the CPU kernels cut their work into. They are here, and not beside the loops that use
// them, so that tests can run every loop just below, at, just above and well above its block: a fault in the second
// block, in the last one, or in what goes from one to the next shows nowhere else (tests/kernels/test_blocks.cpp).
//
// None of them depends on the machine or on the number of threads.
#include <cstdint>

namespace strand::block_sizes {

// ---- sums over tokens, and loops over rows ------------------------------------------------------------------------
constexpr int64_t tokens = 64;          ///< tokens behind one partial sum, and of a task where there is no sum
constexpr int64_t rows = 16;            ///< tokens or expert rows of a task where nothing is summed over them
constexpr int64_t padding_rows = 1024;  ///< expert rows looked at for padding at a time
constexpr int64_t row_alignment =
    16;  ///< the row blocks of experts start at multiples of this, so that product shapes repeat
constexpr int64_t norm_rows = 32;      ///< rows behind one partial sum of the gradient of a norm's weight
constexpr int64_t norm_columns = 128;  ///< columns of a task that adds these partial sums
constexpr int64_t split_tokens = 4;    ///< tokens whose heads are split off and joined together

// ---- attention ----------------------------------------------------------------------------------------------------
constexpr int64_t attention = 64;    ///< queries and keys in a block: a score tile is 16 KiB
constexpr int64_t cached_keys = 64;  ///< rows of cached values visited column by column: they stay in the first cache
/// With so many key/value heads a thread, backward cuts no head into parts.
constexpr int64_t whole_heads_per_thread = 8;

// ---- matrix products ----------------------------------------------------------------------------------------------
/// Rows of x that are widened to f32 at a time: few enough to be still in cache when the product reads them, and a
/// bound on the memory this takes.
constexpr int64_t widened_rows = 1024;
constexpr int64_t widened_block = 512;  ///< rows, columns and depth of the blocks in which bf16 products are emulated
constexpr int64_t widened_elements = 8192;  ///< elements of a task that widens
/// Outputs of a slice of a weight's gradient, at least: in narrower ones, threads have too little to share.
constexpr int64_t weight_slice = 256;
constexpr int64_t weight_slice_multiple = 64;  ///< a slice is a multiple of this

// ---- matrix products of experts -----------------------------------------------------------------------------------
// Measured on expert shapes: 93 % of the best rate at 64 rows, all of it from 128 to 256 on.
constexpr int64_t expert_rows_least = 64;
constexpr int64_t expert_rows_most = 256;
/// Rows summed in one product of a weight's gradient: more of them mean fewer passes over that gradient, which is
/// larger than a core's cache.
constexpr int64_t expert_sum_rows = 512;
constexpr int64_t expert_outputs_least = 64;  ///< outputs of a piece of a weight's gradient
constexpr int64_t expert_output_pieces = 8;   ///< pieces of a weight's gradient, at most
/// Primitives of oneDNN that a worker keeps. More shapes than any training step has; generation with prompts of many
/// lengths is what could exceed it.
constexpr int64_t kept_products = 2048;

// ---- sorting and moving rows --------------------------------------------------------------------------------------
/// Below this many slots a range, starting a thread costs more than its share of the work.
constexpr int64_t sorted_slots = 8192;
constexpr int64_t gathered_bytes = 65536;  ///< bytes of a task that gathers rows
constexpr int64_t copied_bytes = 262144;   ///< bytes of a task that copies or clears
constexpr int64_t cast_elements = 65536;   ///< elements of a task that changes the type

// ---- router, coupling ---------------------------------------------------------------------------------------------
constexpr int64_t statistics_experts = 16;  ///< experts of a task that adds partial sums of the routing
constexpr int64_t joint_rows = 8;           ///< lower experts of one tile of the joint matrix
constexpr int64_t joint_tokens = 256;       ///< tokens of one partial sum of the joint matrix

// ---- vocabulary, optimizer ----------------------------------------------------------------------------------------
constexpr int64_t exponentials = 1024;         ///< words whose exponentials are summed in f32 before f64 takes over
constexpr int64_t embedding_columns = 64;      ///< columns of a task that adds to the gradient of the embedding
constexpr int64_t optimizer_elements = 32768;  ///< elements of a task of the passes over all parameters
constexpr int64_t updated_elements = 2048;     ///< weights updated before they are rounded, while they are in cache

}  // namespace strand::block_sizes
