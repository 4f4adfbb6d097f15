#pragma once
// Which tokens begin and end texts. tokenizer.json knows the tokens that its post-processor puts around a text;
// transformers' tokenizer_config.json names the tokens and may overrule the post-processor.
#include <string_view>

#include "data/bpe/tokenizer_json.h"
#include "data/tokenizer_description.h"

namespace strand {

/// `config` holds the bytes of a tokenizer_config.json; "" = there is none. As in transformers, its add_bos_token and
/// add_eos_token take the place of the post-processor when one of them is there. Throws Error that begins with `file`
/// (its name) when a token is not in the vocabulary.
SpecialTokens special_tokens(const TokenizerJson& tokenizer, std::string_view config, const std::string& file);

}  // namespace strand
