#include "data/bpe/bpe_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/bpe/byte_alphabet.h"
#include "data/bpe/special_tokens.h"
#include "data/utf8.h"

namespace strand {

namespace {
std::vector<std::string> bytes_of_tokens(const TokenizerJson& json) {
  std::vector<std::string> texts;
  for (const std::string& spelling : json.spellings) texts.push_back(read_spelled(spelling).value_or(""));
  return texts;
}

std::vector<AddedToken> found_in_original(const TokenizerJson& json) {
  std::vector<AddedToken> tokens;
  for (const AddedToken& token : json.added)
    if (!token.normalized) tokens.push_back(token);
  return tokens;
}

std::vector<AddedToken> found_in_normalized(const TokenizerJson& json, const Normalizer& normalizer) {
  std::vector<AddedToken> tokens;
  for (AddedToken token : json.added) {
    if (!token.normalized) continue;
    token.content = normalizer.normalize(token.content, KeepSource::no).text;
    if (!token.content.empty()) tokens.push_back(token);
  }
  return tokens;
}

std::string config_of(const NamedFiles& files) {
  const auto found = files.find(tokenizer_config_file);
  return found == files.end() ? "" : found->second;
}
}  // namespace

BpeTokenizer::BpeTokenizer(const NamedFiles& files_of_tokenizer, const std::string& name_of_tokenizer)
    : Tokenizer(files_of_tokenizer, name_of_tokenizer),
      json_(TokenizerJson::parse(files().at(tokenizer_json_file), name())),
      normalizer_(json_.normalizer),
      in_original_(found_in_original(json_)),
      in_normalized_(found_in_normalized(json_, normalizer_)),
      texts_(bytes_of_tokens(json_)),
      pieces_(texts_, json_.merges, json_.options),
      spellings_(json_.spellings),
      cuts_(json_) {
  for (const AddedToken& token : json_.added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= spellings_.size()) spellings_.resize(id + 1);
    spellings_[id] = token.content;
  }
  control_.resize(spellings_.size());
  added_.resize(spellings_.size());
  for (const AddedToken& token : json_.added) {
    control_[static_cast<size_t>(token.id)] = token.special;
    added_[static_cast<size_t>(token.id)] = true;
  }
  const std::string config = (std::filesystem::path(name()).parent_path() / tokenizer_config_file).string();
  special_ = special_tokens(json_, config_of(files()), config);
}

size_t BpeTokenizer::find_cut(std::string_view text, size_t from) const {
  return cuts_.find(text, from);
}

/// Encodes the stretches of one block. It holds the memory for that.
class BpeTokenizer::TextEncoder {
 public:
  TextEncoder(const BpeTokenizer& of, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans)
      : of_(of), ids_(ids), spans_(spans), splitter_(of.json_.splitter) {}

  void encode(const Block& block) {
    for (const TextStretch& stretch : of_.in_original_.split(block.text)) {
      if (stretch.token >= 0) {
        add(stretch.token, {block.offset + stretch.begin, block.offset + stretch.end});
      } else {
        begin_ = block.offset + stretch.begin;
        encode_text(block.text.substr(stretch.begin, stretch.end - stretch.begin));
      }
    }
  }

 private:
  /// A text without added tokens of the first kind.
  void encode_text(std::string_view text) {
    normalized_ = {};
    if (!of_.normalizer_.leaves_alone(text)) {
      normalized_ = of_.normalizer_.normalize(text, spans_ == nullptr ? KeepSource::no : KeepSource::yes);
      text = normalized_.text;
    }
    for (const TextStretch& stretch : of_.in_normalized_.split(text)) {
      if (stretch.token >= 0) {
        add(stretch.token, source_of({stretch.begin, stretch.end}));
      } else {
        splitter_.split(text.substr(stretch.begin, stretch.end - stretch.begin),
                        [&](const TextPiece& piece) { encode_piece(piece, stretch.begin); });
      }
    }
  }

  void encode_piece(const TextPiece& piece, size_t begin_of_stretch) {
    tokens_.clear();
    of_.pieces_.encode(piece.text, tokens_);
    // Offsets in the piece, whose first `added` bytes stand for none of the text.
    const auto place = [&](size_t at) { return begin_of_stretch + piece.begin + at - std::min(at, piece.added); };
    size_t at = 0;
    for (const PieceToken& token : tokens_) {
      ids_.push_back(token.id);
      if (spans_ != nullptr) spans_->push_back({token.id, source_of({place(at), place(at + token.bytes)})});
      at += token.bytes;
    }
  }

  void add(int32_t id, ByteRange bytes) {
    ids_.push_back(id);
    if (spans_ != nullptr) spans_->push_back({id, bytes});
  }

  /// The bytes of the whole text from which these bytes of the normalized stretch were made.
  ByteRange source_of(ByteRange made) const {
    if (normalized_.source.empty()) return {begin_ + made.begin, begin_ + made.end};
    if (made.begin == made.end) {
      const bool at_end = made.begin == normalized_.source.size();
      const size_t place = at_end ? normalized_.source.back().end : normalized_.source[made.begin].begin;
      return {begin_ + place, begin_ + place};
    }
    return {begin_ + normalized_.source[made.begin].begin, begin_ + normalized_.source[made.end - 1].end};
  }

  const BpeTokenizer& of_;
  std::vector<int32_t>& ids_;
  std::vector<TokenSpan>* spans_;
  Splitter splitter_;
  std::vector<PieceToken> tokens_;
  size_t begin_ = 0;           ///< of the text between added tokens, in the whole text
  NormalizedText normalized_;  ///< that text after the normalizer; empty where the normalizer leaves it alone
};

void BpeTokenizer::encode_block(const Block& block, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const {
  const size_t bad = first_invalid_utf8(block.text);
  require(bad == block.text.size(), "{}: the text is not UTF-8 at byte {}; convert it first (iconv -t UTF-8)", name(),
          block.offset + bad);
  TextEncoder(*this, ids, spans).encode(block);
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids) {
    check_id(id);
    const auto at = static_cast<size_t>(id);
    if (control_[at]) continue;
    const bool spelled = !added_[at] && at < texts_.size() && !texts_[at].empty();
    bytes += spelled ? texts_[at] : spellings_[at];
  }
  return with_replacements(bytes);
}

const std::string& BpeTokenizer::piece(int32_t id) const {
  check_id(id);
  return spellings_[static_cast<size_t>(id)];
}

bool BpeTokenizer::is_byte(int32_t id) const {
  check_id(id);
  const auto at = static_cast<size_t>(id);
  return at < texts_.size() && texts_[at].size() == 1;
}

bool BpeTokenizer::is_control(int32_t id) const {
  check_id(id);
  return control_[static_cast<size_t>(id)];
}

}  // namespace strand
