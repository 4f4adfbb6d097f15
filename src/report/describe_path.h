#pragma once
// What is this path? Decided by what it holds, not by what it is called; names only decide whose error message a file
// gets whose content is nothing known.
#include <string>

#include "data/token_file.h"

namespace strand {

enum class PathKind { checkpoint, run_directory, token_file, tokenizer, safetensors };

/// Throws Error listing what was tried when the path is none of these.
/// A Megatron pair may be named by its prefix. Token files without a header cannot be told from any other bytes.
PathKind identify_path(const std::string& path);

struct InspectOptions {
  TokenFormat format = TokenFormat::automatic;  ///< anything else: the path is a token file of this format
  std::string tokenizer;                        ///< a .model, to show token files as text; or empty
};

/// The description, of several lines. Throws Error.
std::string describe_path(const std::string& path, const InspectOptions& options);

/// What a training run left in its directory: configuration, log, checkpoints.
std::string describe_run_directory(const std::string& path);

}  // namespace strand
