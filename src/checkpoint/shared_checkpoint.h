#pragma once
// One checkpoint that several processes write at once. Each writes its own shards. They learn of each other only
// through files in the temporary directory, which the first one has created (CheckpointWriter::create), so that threads
// can do this which must not send messages:
//   every writer   writes its shards, then part-00003.json (writer 3, from 0): {"files": {NAME: {"bytes", "xxh3"}},
//                  "model": {TENSOR: FILE}, "model_bytes": n, the same of "optimizer"}, or {"error": "..."}
//   writer 0       waits for all parts, removes them, writes indices, config, tokenizer, state and manifest, renames
// The result differs from what one process would write only in the number of shards.
#include <atomic>
#include <string>

#include "checkpoint/checkpoint.h"
#include "core/error.h"

namespace strand {

/// Which writer this is, among how many, and where its shards stand among all shards. The writers agree on this before
/// they begin; the numbers of their shards are enough to compute it.
struct WriterPlace {
  struct Shards {
    size_t first = 0;  ///< written by those before
    size_t total = 0;
  };
  int writer = 0, writers = 1;
  Shards model, optimizer;
};

/// How many shards a writer makes of its tensors; 0 when it has no tensors.
size_t shard_count(std::span<const NamedTensor> tensors, uint64_t max_shard_bytes = default_shard_bytes);

/// What every writer but the first calls. An error is written into the part and thrown.
void write_checkpoint_part(const std::string& parent, const CheckpointContents& contents, const WriterPlace& place,
                           uint64_t max_shard_bytes = default_shard_bytes);

/// Thrown by finish_shared_checkpoint when it was told to give up.
class Abandoned : public Error {
 public:
  using Error::Error;
};

/// What the first writer calls. It writes its own shards and everything that is written once, waits for the others, and
/// returns the path of the whole checkpoint. It throws Error with the message of a writer that failed, Error when for
/// `patience_seconds` no writer finished and no file grew, and Abandoned when `abandon` becomes true. Then nothing
/// stands under the final name.
std::string finish_shared_checkpoint(CheckpointWriter& writer, const CheckpointContents& contents,
                                     const WriterPlace& place, double patience_seconds,
                                     const std::atomic<bool>& abandon, uint64_t max_shard_bytes = default_shard_bytes);

}  // namespace strand
