#pragma once
// A Hugging Face model directory as a checkpoint with weights only, in f32: to evaluate, to generate with, to train on.
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::hf {

struct ImportOptions {
  int64_t longest_sequence = 4096;  ///< data.sequence_length is the model's own limit, or this if that is longer
};

struct ImportSummary {
  std::string class_name;
  std::string checkpoint;  ///< its path
  Config config;
  int64_t tensors = 0;
  bool has_tokenizer = false;
  // For people:
  std::vector<std::string> notes;     ///< what was left out and why, which ids are padding
  std::vector<std::string> warnings;  ///< what they may not have expected
};

/// Writes the checkpoint `out`, a path that ends in step_00000000, or, for any other path, `out`/checkpoints/
/// step_00000000. The directory holds config.json, model.safetensors (or shards) in F32, BF16, F16 or F64, and perhaps
/// tokenizer.model, which is left out, with a warning, when it is not a SentencePiece model. Throws Error naming the
/// file and the key or tensor that our models have no place for.
ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options = {});

}  // namespace strand::hf
