#pragma once
// Writes a checkpoint as a Hugging Face model directory:
//   config.json, generation_config.json   the model's class and options
//   model.safetensors                     or shards with an index; one 2-D tensor an expert
//   the tokenizer's files                 verbatim; absent when the checkpoint has none
//   tokenizer.json, tokenizer_config.json beside a tokenizer.model that is of SentencePiece, made of it; absent when
//                                         they would not give the same ids from every text
//   chat_template.jinja                   the chat template (chat_files.h), which tokenizer_config.json has too; absent
//                                         when the checkpoint has none
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "export/parameter_counts.h"

namespace strand::hf {

struct ExportOptions {
  DType dtype = DType::f32;  ///< or bf16; router weights and biases are f32 in any case
  uint64_t max_shard_bytes = default_shard_bytes;
  std::string class_name = {};     ///< one of written_classes(); "" = as family_for chooses
  std::string chat_template = {};  ///< to write in place of the carried one (TemplateSources::choice)
};

struct ExportSummary {
  std::string class_name;
  int64_t tensors = 0;
  ParameterCounts parameters;
  uint64_t bytes = 0;  ///< of the tensors
  bool has_tokenizer = false;
  std::vector<std::string> caveats;  ///< where other programs compute something else; why a file is not written
};

/// `config` is the checkpoint's configuration with the vocabulary's size known. The directory is written under a
/// temporary name beside `directory` and renamed when it is complete. Tensors are copied in pieces of a few MB. Throws
/// Error when no class can express the model, and when `directory` exists and is not empty.
ExportSummary export_model(const Checkpoint& checkpoint, const Config& config, const std::string& directory,
                           const ExportOptions& options = {});

}  // namespace strand::hf
