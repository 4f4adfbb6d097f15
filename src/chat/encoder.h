#pragma once
// The ids of conversations. A special token that a template spells is one id. Whatever a message spells is text: nobody
// who writes a message can begin or end a turn.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chat/chat_template.h"
#include "data/tokenizer.h"

namespace strand {

/// What a model writes when its turn is over: a special token, a text, or a text and then the token.
struct TurnEnd {
  std::optional<int32_t> id;
  std::string text;  ///< without white space at its ends; "" = none
};

class ChatEncoder {
 public:
  /// `tokenizer` outlives the encoder. Throws Error when the template has BOS or EOS and the tokenizer does not.
  ChatEncoder(ChatTemplate chat_template, const Tokenizer& tokenizer);

  /// The ids of the rendered text. Text between two special tokens is encoded as a text of its own, as Hugging Face's
  /// tokenizers do it. Throws Error naming the conversation for what render() refuses, and for a message whose text the
  /// tokenizer would take for a special token however it is cut.
  std::vector<int32_t> encode(const Conversation& conversation, RenderedEnd end) const;

  const TurnEnd& turn_end() const { return turn_end_; }
  /// A text for people: the template has marks that should be special tokens, and the tokenizer has none of them. ""
  /// where that is not so.
  std::string remark() const;

 private:
  struct Special {
    std::string spelling;
    int32_t id;
  };
  struct Found {
    size_t at;
    const Special* token;  ///< null = none, and `at` is the end
  };
  Found find_special(std::string_view text, size_t from) const;
  void append_frame_ids(const std::string& text, std::string& run, std::vector<int32_t>& ids) const;
  void append_run(std::string& run, std::vector<int32_t>& ids) const;
  void append_cut(const std::string& text, std::vector<int32_t>& ids) const;
  bool has_special(const std::vector<int32_t>& ids) const;
  TurnEnd find_turn_end() const;

  ChatTemplate template_;
  const Tokenizer& tokenizer_;
  std::vector<Special> special_;  ///< the longest first
  TurnEnd turn_end_;
};

}  // namespace strand
