#pragma once
// Makes a checkpoint of a Hugging Face model directory, with weights only, in f32. It can be evaluated, used to
// generate text, and trained on.
#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "export/model_directory.h"

namespace strand::hf {

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
/// checkpoint `out`/checkpoints/step_00000000. ModelDirectory says what is read, and what is refused. A tokenizer that
/// strand does not understand is left out with a warning.
ImportSummary import_model(const std::string& directory, const std::string& out, const ImportOptions& options = {});

}  // namespace strand::hf
