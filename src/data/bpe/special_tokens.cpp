#include "data/bpe/special_tokens.h"

#include <algorithm>

#include "core/strict_json.h"
#include "data/bpe/json_place.h"

namespace strand {

namespace {
/// The id of a token by what the file calls it; -1 when there is none.
int32_t find_token(const TokenizerJson& tokenizer, const std::string& content) {
  const auto added = std::find_if(tokenizer.added.begin(), tokenizer.added.end(),
                                  [&](const AddedToken& token) { return token.content == content; });
  if (added != tokenizer.added.end()) return added->id;
  const auto spelled = std::find(tokenizer.spellings.begin(), tokenizer.spellings.end(), content);
  if (spelled == tokenizer.spellings.end()) return -1;
  return static_cast<int32_t>(spelled - tokenizer.spellings.begin());
}

/// A token is its text, or an object with a "content". The member may be missing or null: -1.
int32_t read_token(const TokenizerJson& tokenizer, const JsonPlace& config, const char* key) {
  const std::optional<JsonPlace> found = config.find(key);
  if (!found) return -1;
  const std::string content = found->value().is_object() ? found->at("content").text() : found->text();
  const int32_t id = find_token(tokenizer, content);
  if (id < 0) found->refuse("\"" + content + "\" is no token of the tokenizer.json beside it");
  return id;
}

int32_t first_or_none(const std::vector<int32_t>& ids) {
  return ids.empty() ? -1 : ids[0];
}
}  // namespace

SpecialTokens special_tokens(const TokenizerJson& tokenizer, std::string_view config, const std::string& file) {
  SpecialTokens special{.unk = tokenizer.options.unknown,
                        .bos = first_or_none(tokenizer.before_text),
                        .eos = first_or_none(tokenizer.after_text),
                        .begin_with_bos = !tokenizer.before_text.empty(),
                        .end_with_eos = !tokenizer.after_text.empty()};
  if (config.empty()) return special;
  const nlohmann::json content = parse_strict_json(config, file);
  const JsonPlace top(content, file);
  const bool overruled = top.find("add_bos_token") || top.find("add_eos_token");
  const auto take = [&](int32_t& id, const char* key, bool in_use) {
    const int32_t named = read_token(tokenizer, top, key);
    if (named >= 0 && !in_use) id = named;
  };
  if (overruled) special.begin_with_bos = special.end_with_eos = false;
  take(special.bos, "bos_token", special.begin_with_bos);
  take(special.eos, "eos_token", special.end_with_eos);
  take(special.pad, "pad_token", false);
  take(special.unk, "unk_token", special.unk >= 0);
  if (overruled) {
    special.begin_with_bos = special.bos >= 0 && top.flag_or("add_bos_token", false);
    special.end_with_eos = special.eos >= 0 && top.flag_or("add_eos_token", false);
  }
  return special;
}

}  // namespace strand
