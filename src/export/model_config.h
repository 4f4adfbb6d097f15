#pragma once
// config.json and generation_config.json: a family's keys, written from a configuration and read into one.
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "export/family.h"
#include "export/tokenizer_files.h"

namespace strand::hf {

/// Every key explicit; whole numbers without a point, others with one or an exponent.
std::string config_json(const Family& family, const Config& config, const SpecialTokens& tokens, DType dtype);
std::string generation_config_json(const SpecialTokens& tokens);

/// What a config.json describes. Model and moe settings, norms and positions are filled and the other groups keep what
/// they have; what only the tensors tell is missing yet (Family::settle).
struct ForeignConfig {
  const Family* family;
  Config config;
  int64_t prediction_layers = 0;  ///< num_nextn_predict_layers: layers past the last that the class itself leaves out
};

/// `longest` bounds the sequences (max_position_embeddings of public models ask for more memory than most have).
/// `where` is the file, for messages. Throws Error naming file and key.
ForeignConfig read_config_json(const std::string& text, const std::string& where, int64_t longest);

/// The version of transformers whose files these are like.
inline constexpr const char* transformers_version = "4.57.0";

}  // namespace strand::hf
