#pragma once
// One checkpoint written by several processes at once, each its own shards. They meet in the temporary directory that
// the first one created (CheckpointWriter::create) and nowhere else, so that threads which must not send messages can
// do it:
//   every writer   writes its shards, then part-00003.json (writer 3, from 0): {"files": {NAME: {"bytes", "xxh3"}},
//                  "model": {TENSOR: FILE}, "model_bytes": n, the same of "optimizer"}, or {"error": "..."}
//   writer 0       waits for all parts, removes them, writes indices, config, tokenizer, state and manifest, renames
// What results is no different from what one process writes, but for the number of shards.
#include <atomic>
#include <string>

#include "checkpoint/checkpoint.h"
#include "core/error.h"

namespace strand {

/// A writer among several, and where its shards stand among all: agreed before, as it takes no more than their numbers.
struct WriterPlace {
  struct Shards {
    size_t first = 0;  ///< written by those before
    size_t total = 0;
  };
  int writer = 0, writers = 1;
  Shards model, optimizer;
};

/// Shards that a writer makes of its tensors; 0 for none.
size_t shard_count(std::span<const NamedTensor> tensors, uint64_t max_shard_bytes = default_shard_bytes);

/// For every writer but the first. Errors go into the part as well as to the caller.
void write_checkpoint_part(const std::string& parent, const CheckpointContents& contents, const WriterPlace& place,
                           uint64_t max_shard_bytes = default_shard_bytes);

/// Thrown by finish_shared_checkpoint when it was told to give up.
class Abandoned : public Error {
 public:
  using Error::Error;
};

/// For the first writer: writes its own shards and everything that is there once, and returns the checkpoint's path
/// when it is whole. Throws Error with the message of a writer that failed; when for `patience_seconds` no writer
/// finished and no file grew; or Abandoned when `abandon` becomes true. Nothing is left under the final name then.
std::string finish_shared_checkpoint(CheckpointWriter& writer, const CheckpointContents& contents,
                                     const WriterPlace& place, double patience_seconds,
                                     const std::atomic<bool>& abandon, uint64_t max_shard_bytes = default_shard_bytes);

}  // namespace strand
