#pragma once
// A chat template as a program in Jinja, the language in which Hugging Face and llama.cpp keep them.
#include <string>

#include "chat/chat_template.h"

namespace strand {

/// The program. Transformers' apply_chat_template renders with it what render() does, and raises an exception for
/// roles that render() refuses.
std::string to_jinja(const ChatTemplate& chat_template);

}  // namespace strand
