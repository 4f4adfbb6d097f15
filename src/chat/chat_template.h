#pragma once
// A chat template says how a conversation becomes the text from which a model goes on. There are named ones
// (named_templates.h), files of people's own (template_yaml.h), and those of imported models, which are programs in the
// language Jinja (carried_templates.h).
//
//   [BOS] [system turn] user turn, assistant turn, user turn, ..., generation prompt
//
// A turn is PREFIX + content + SUFFIX.
#include <cstdint>
#include <string>
#include <vector>

#include "chat/conversation.h"
#include "chat/frame.h"

namespace strand {

/// Where the text of a system message stands.
enum class SystemPlace : uint8_t {
  own_turn,        ///< a turn like the others, wherever the message is
  first_user_turn  ///< before the content of the first user; the turns of user and assistant must then alternate
};

/// The texts may hold "{bos}" and "{eos}" (frame.h).
struct ChatTemplate {
  std::string name;
  bool bos = false;            ///< a conversation begins with BOS
  std::string default_system;  ///< the system message of a conversation that does not begin with one; "" = none
  SystemPlace system_place = SystemPlace::own_turn;
  bool trim = false;  ///< white space at both ends of a turn's content (with the system text in it) is removed
  std::string system_prefix, system_suffix;
  // With turns of their own only:
  std::string first_system_suffix;  ///< in place of system_suffix where the conversation begins so; "" = no difference
  std::string without_system;       ///< the begin of a conversation that does not begin with a system message
  std::string user_prefix, user_suffix;
  std::string assistant_prefix, assistant_suffix;
  std::string generation_prompt;  ///< what comes before the assistant's turn that a model is to write
  bool operator==(const ChatTemplate&) const = default;
};

/// Whether a text ends with the last message, or with what makes a model answer it.
enum class RenderedEnd : uint8_t { last_message, generation_prompt };

/// The parts of the text, none of them empty. Throws Error naming the conversation and the message that the template
/// has no place for.
std::vector<Part> render(const ChatTemplate& chat_template, const Conversation& conversation, RenderedEnd end);

/// The text, with the tokenizer's own spellings of BOS and EOS.
std::string text_of(const std::vector<Part>& parts, const std::string& bos, const std::string& eos);

}  // namespace strand
