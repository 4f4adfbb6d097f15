#pragma once
// Chat templates in files of people's own:
//
//   bos: true                      a conversation begins with BOS (default false)
//   default_system: "Be brief."    the system message of a conversation without one (default: none)
//   system: own_turn               or first_user_turn (SystemPlace; default own_turn)
//   trim: false                    white space at both ends of contents is removed (default false)
//   system_prefix: "<|system|>\n"  a text before and after the content of each role (default "")
//   system_suffix: "<|end|>\n"
//   first_system_suffix: "..."     the same for a system message at the begin (default: system_suffix)
//   without_system: "..."          the begin of a conversation without a system message (default: none)
//   user_prefix: "<|user|>\n"      required, as the next three are
//   user_suffix: "<|end|>\n"
//   assistant_prefix: "<|assistant|>\n"
//   assistant_suffix: "<|end|>\n"  not empty: it tells where an answer ends
//   generation_prompt: "..."       default: assistant_prefix
#include <cstdint>
#include <string>

#include "chat/chat_template.h"

namespace strand {

/// A file is at most so large.
inline constexpr uint64_t max_template_bytes = uint64_t{1} << 20;

/// Throws Error: `FILE:LINE: KEY: PROBLEM`.
ChatTemplate parse_template(const std::string& yaml, const std::string& file);

/// The template that `choice` means: a name, or a file that ends in .yaml or .yml. Throws Error when there is none.
ChatTemplate load_template(const std::string& choice);
}  // namespace strand
