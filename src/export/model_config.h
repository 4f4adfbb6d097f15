#pragma once
// config.json and generation_config.json: a family's keys, written from a configuration and read into one.
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "export/family.h"
#include "export/tokenizer_files.h"

namespace strand::hf {

/// The text of config.json, with every key. Whole numbers have no point; others have a point or an exponent.
std::string config_json(const Family& family, const Config& config, const SpecialTokens& tokens, DType dtype);
std::string generation_config_json(const SpecialTokens& tokens);

/// What a config.json describes. The settings of the model are filled in, and other groups of the configuration have
/// their defaults. Settings that only the tensors tell are not known yet (Family::settle).
struct ForeignConfig {
  const Family* family;
  Config config;
  int64_t prediction_layers = 0;  ///< num_nextn_predict_layers: further layers, which the class itself does not load
};

/// `longest` is an upper limit of the sequence length, because max_position_embeddings of public models would take more
/// memory than most machines have. `where` is the name of the file in messages. Throws Error naming file and key.
ForeignConfig read_config_json(const std::string& text, const std::string& where, int64_t longest);

/// The version of transformers that is named in the files.
inline constexpr const char* transformers_version = "4.57.0";

}  // namespace strand::hf
