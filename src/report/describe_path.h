#pragma once
// Says what a path is. Its content decides, and not its name. Only for a file whose content is of no known kind, the
// name decides which reader's error message is shown.
#include <string>

#include "data/token_file.h"

namespace strand {

enum class PathKind { checkpoint, run_directory, model_directory, token_file, tokenizer, safetensors, gguf };

/// Throws Error that lists what was tried when the path is none of these. A Megatron pair may be named by its prefix.
/// Token files without a header cannot be recognized, because any bytes look like one.
PathKind identify_path(const std::string& path);

struct InspectOptions {
  TokenFormat format = TokenFormat::automatic;  ///< anything else: the path is a token file of this format
  std::string tokenizer;                        ///< a tokenizer with which token files are shown as text, or empty
};

/// The description, of several lines. Throws Error.
std::string describe_path(const std::string& path, const InspectOptions& options);

/// What a training run left in its directory: configuration, log, checkpoints.
std::string describe_run_directory(const std::string& path);

}  // namespace strand
