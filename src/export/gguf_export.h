#pragma once
// Writes a checkpoint as one GGUF file: the architecture and options of the model, its vocabulary, and its weights.
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "export/gguf_encoding.h"
#include "export/parameter_counts.h"

namespace strand::gguf {

struct ExportOptions {
  /// Of matrices. Vectors, routers and selection biases are f32 in any case. Matrices whose rows are no multiple of 32
  /// are f16 where the others are q8_0.
  Encoding encoding = Encoding::f32;
  std::string chat_template = {};  ///< to write in place of the carried one (TemplateSources::choice)
};

struct ExportSummary {
  std::string architecture;
  int64_t tensors = 0;
  hf::ParameterCounts parameters;
  uint64_t bytes = 0;  ///< of the tensors
  bool has_tokenizer = false;
  std::vector<std::string> caveats;  ///< tensors of another type; where llama.cpp computes something else
};

/// `config` is the checkpoint's configuration with the vocabulary's size known. The file appears when it is complete.
/// Tensors pass through memory in pieces of a few MB. Throws Error when no architecture can express the model, when
/// something is at `path` already, and when a weight is too large for the type.
ExportSummary export_model(const Checkpoint& checkpoint, const Config& config, const std::string& path,
                           const ExportOptions& options = {});

}  // namespace strand::gguf
