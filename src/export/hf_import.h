#pragma once
// Makes a checkpoint of a Hugging Face model directory, with weights only, in f32. It can be evaluated, used to
// generate text, and trained on.
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::hf {

struct ImportOptions {
  int64_t longest_sequence = 4096;  ///< data.sequence_length is the model's own limit, and at most this
};

struct ImportSummary {
  std::string class_name;
  std::string checkpoint;  ///< its path
  Config config;
  int64_t tensors = 0;
  bool has_tokenizer = false;
  // Texts for people:
  std::vector<std::string> notes;     ///< what was left out and why, which ids are padding
  std::vector<std::string> warnings;  ///< what people may not expect
};

/// Writes the checkpoint `out`, when that is a path that ends in step_00000000. For any other path it writes the
/// checkpoint `out`/checkpoints/step_00000000. The directory holds config.json, model.safetensors (or shards) in F32,
/// BF16, F16 or F64, and perhaps a tokenizer: a tokenizer.model that is of SentencePiece, or else a tokenizer.json with
/// its tokenizer_config.json. One that strand does not understand is left out with a warning. Chat templates and the ids
/// that end a text are carried along (chat_files.h). Throws Error naming the file and the key or tensor for which our
/// models have no place.
ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options = {});

}  // namespace strand::hf
