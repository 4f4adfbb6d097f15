#include "chat/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "data/tokenizer_description.h"
#include "data/utf8.h"

namespace strand {

namespace {
std::vector<Part> parts_of(const std::string& text) {
  std::vector<Part> parts;
  append_frame(text, parts);
  return parts;
}

std::vector<Part> all_frames(const ChatTemplate& t) {
  std::vector<Part> parts;
  if (t.bos) parts.push_back({Part::Kind::bos, ""});
  for (const std::string* text :
       {&t.system_prefix, &t.system_suffix, &t.first_system_suffix, &t.without_system, &t.user_prefix, &t.user_suffix,
        &t.assistant_prefix, &t.assistant_suffix, &t.generation_prompt})
    append_frame(*text, parts);
  return parts;
}

/// The tokens that a tokenizer finds in any text although they need not mean something to the model: those that a user
/// of SentencePiece has defined, and all that were added to a vocabulary of BPE.
std::vector<int32_t> found_in_text(const TokenizerDescription& description) {
  std::vector<int32_t> ids;
  if (const auto* model = std::get_if<SentencePieceModel>(&description)) {
    for (size_t id = 0; id < model->pieces.size(); ++id)
      if (model->pieces[id].type == PieceType::user_defined) ids.push_back(static_cast<int32_t>(id));
  } else {
    for (const AddedToken& token : std::get<TokenizerJson>(description).added) ids.push_back(token.id);
  }
  return ids;
}

/// Whether a token can be a mark of a template, and is no word, number or white space that texts have too.
bool is_mark(const std::string& spelling) {
  const auto is_sign = [](unsigned char c) { return c >= 0x80 || std::ispunct(c); };
  return spelling.size() >= 3 && !trimmed(spelling).empty() &&
         std::any_of(spelling.begin(), spelling.end(), [&](char c) { return is_sign(static_cast<unsigned char>(c)); });
}

/// The ids of the tokens that are no text: control tokens, and marks that the template spells.
std::vector<int32_t> special_ids(const Tokenizer& tokenizer, const std::vector<Part>& frames) {
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.is_control(id)) ids.push_back(id);
  for (const int32_t id : found_in_text(tokenizer.description())) {
    const std::string& spelling = tokenizer.piece(id);
    const bool spelled = is_mark(spelling) && std::any_of(frames.begin(), frames.end(), [&](const Part& p) {
                           return p.text.find(spelling) != std::string::npos;
                         });
    if (spelled && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

bool has(const std::vector<Part>& parts, Part::Kind kind) {
  return std::any_of(parts.begin(), parts.end(), [&](const Part& p) { return p.kind == kind; });
}

/// The length in bytes of the character with which well-formed UTF-8 begins.
size_t first_character(std::string_view text) {
  size_t bytes = 1;
  while (bytes < text.size() && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) ++bytes;
  return bytes;
}
}  // namespace

ChatEncoder::ChatEncoder(ChatTemplate chat_template, const Tokenizer& tokenizer)
    : template_(std::move(chat_template)), tokenizer_(tokenizer) {
  const std::vector<Part> frames = all_frames(template_);
  for (const int32_t id : special_ids(tokenizer, frames))
    if (!tokenizer.piece(id).empty()) special_.push_back({tokenizer.piece(id), id});
  std::stable_sort(special_.begin(), special_.end(),
                   [](const Special& a, const Special& b) { return a.spelling.size() > b.spelling.size(); });
  require(tokenizer.bos_id() >= 0 || !has(frames, Part::Kind::bos),
          "chat template {} has the begin of a text (BOS), and {} has no such token", template_.name, tokenizer.name());
  require(tokenizer.eos_id() >= 0 || !has(frames, Part::Kind::eos),
          "chat template {} has the end of a text (EOS), and {} has no such token", template_.name, tokenizer.name());
  turn_end_ = find_turn_end();
}

/// The first special token at or after byte `from`; of those that begin there, the longest.
ChatEncoder::Found ChatEncoder::find_special(std::string_view text, size_t from) const {
  Found found{text.size(), nullptr};
  for (const Special& token : special_) {
    const size_t at = text.find(token.spelling, from);
    if (at < found.at) found = {at, &token};
  }
  return found;
}

bool ChatEncoder::has_special(const std::vector<int32_t>& ids) const {
  return std::any_of(ids.begin(), ids.end(), [&](int32_t id) {
    return std::any_of(special_.begin(), special_.end(), [&](const Special& token) { return token.id == id; });
  });
}

/// Encodes a text in which the tokenizer finds special tokens that are none: it is cut inside each of them.
void ChatEncoder::append_cut(const std::string& text, std::vector<int32_t>& ids) const {
  std::vector<int32_t> added;
  size_t begin = 0;
  TextPosition position = TextPosition::start;
  for (Found found = find_special(text, 0); found.token; found = find_special(text, begin)) {
    const size_t end = found.at + first_character(std::string_view(text).substr(found.at));
    tokenizer_.encode(std::string_view(text).substr(begin, end - begin), added, position);
    position = TextPosition::continuation;
    begin = end;
  }
  tokenizer_.encode(std::string_view(text).substr(begin), added, position);
  require(!has_special(added), "a message holds a text that {} takes for a special token however it is cut; remove it",
          tokenizer_.name());
  ids.insert(ids.end(), added.begin(), added.end());
}

/// Appends the ids of a stretch between special tokens, and empties it.
void ChatEncoder::append_run(std::string& run, std::vector<int32_t>& ids) const {
  if (run.empty()) return;
  const std::vector<int32_t> added = tokenizer_.encode(run);
  if (has_special(added))
    append_cut(run, ids);
  else
    ids.insert(ids.end(), added.begin(), added.end());
  run.clear();
}

void ChatEncoder::append_frame_ids(const std::string& text, std::string& run, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  for (Found found = find_special(text, 0); found.token; found = find_special(text, begin)) {
    run += text.substr(begin, found.at - begin);
    append_run(run, ids);
    ids.push_back(found.token->id);
    begin = found.at + found.token->spelling.size();
  }
  run += text.substr(begin);
}

std::vector<int32_t> ChatEncoder::encode(const Conversation& conversation, RenderedEnd end) const {
  std::vector<int32_t> ids;
  std::string run;
  const std::vector<Part> parts = render(template_, conversation, end);
  try {
    for (const Part& part : parts) {
      switch (part.kind) {
        case Part::Kind::frame:
          append_frame_ids(part.text, run, ids);
          break;
        case Part::Kind::content:
          run += part.text;
          break;
        case Part::Kind::bos:
        case Part::Kind::eos:
          append_run(run, ids);
          ids.push_back(part.kind == Part::Kind::bos ? tokenizer_.bos_id() : tokenizer_.eos_id());
      }
    }
    append_run(run, ids);
  } catch (const Error& e) {
    fail("{}: {}", conversation.where, e.what());
  }
  return ids;
}

TurnEnd ChatEncoder::find_turn_end() const {
  TurnEnd end;
  std::string text;
  for (const Part& part : parts_of(template_.assistant_suffix)) {
    if (part.kind == Part::Kind::bos || part.kind == Part::Kind::eos) {
      end.id = part.kind == Part::Kind::bos ? tokenizer_.bos_id() : tokenizer_.eos_id();
      break;
    }
    const Found found = find_special(part.text, 0);
    text += part.text.substr(0, found.at);
    if (!found.token) continue;
    end.id = found.token->id;
    break;
  }
  end.text = trimmed(text);
  return end;
}

std::string ChatEncoder::remark() const {
  for (const Part& part : all_frames(template_))
    if (part.kind != Part::Kind::frame || find_special(part.text, 0).token) return "";
  return fmt::format(
      "{} has none of the special tokens of chat template {}, so its marks are ordinary text, which a message can "
      "imitate",
      tokenizer_.name(), template_.name);
}

}  // namespace strand
