#pragma once
// Small configurations for the tests of config/.
#include <string>
#include <vector>

#include "config/schema.h"
#include "core/error.h"

namespace strand {

/// A short and valid configuration. The tests rely on its line numbers.
inline const std::string valid_yaml =
    "model:\n"                  // 1
    "  vocab_size: 100\n"       // 2
    "  hidden_size: 64\n"       // 3
    "  num_layers: 3\n"         // 4
    "  num_heads: 4\n"          // 5
    "moe:\n"                    // 6
    "  num_experts: 8\n"        // 7
    "  top_k: 2\n"              // 8
    "  expert_ffn: 32\n"        // 9
    "data:\n"                   // 10
    "  sequence_length: 16\n"   // 11
    "train:\n"                  // 12
    "  steps: 10\n"             // 13
    "  global_batch_size: 8\n"  // 14
    "  micro_batch_size: 4\n";  // 15

inline Config valid_config(const std::vector<std::string>& overrides = {}) {
  return parse_config(valid_yaml, "test.yaml", overrides);
}

/// The message of the Error that parsing ends in; "" when it succeeds.
inline std::string parse_error(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    parse_config(yaml, "test.yaml", overrides);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace strand
