#include "data/bpe/pre_tokenizer.h"

namespace strand {

const char* const gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const bailing2_pattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|)"
    R"(\s+(?!\S)|\s+)";
const std::vector<std::string> deepseek2_patterns = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                                                     "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", R"(\p{N})"};
const std::vector<std::string> deepseek3_patterns = {
    R"(\p{N}{1,3})", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};

namespace {
/// Gives the parts of a piece to the next stage, as the behavior of a stage wants it.
template <typename Next>
class PartsOfPiece {
 public:
  PartsOfPiece(SplitBehavior behavior, const Next& next) : behavior_(behavior), next_(next) {}

  void add(ByteRange part, bool is_match) {
    if (part.begin == part.end) return;
    switch (behavior_) {
      case SplitBehavior::isolated:
        return next_(part);
      case SplitBehavior::removed:
        if (!is_match) next_(part);
        return;
      case SplitBehavior::merged_with_previous:
        if (is_match && !after_match_ && waiting_.begin < waiting_.end) {
          waiting_.end = part.end;
        } else {
          finish();
          waiting_ = part;
        }
        after_match_ = is_match;
        return;
    }
  }
  void finish() {
    if (waiting_.begin < waiting_.end) next_(waiting_);
    waiting_ = {};
  }

 private:
  SplitBehavior behavior_;
  const Next& next_;
  ByteRange waiting_;
  bool after_match_ = false;
};
}  // namespace

Splitter::Splitter(const std::vector<SplitterStage>& stages) : stages_(stages) {
  for (const SplitterStage& stage : stages) {
    search_of_.push_back(searches_.size());
    if (const auto* split = std::get_if<SplitStage>(&stage)) searches_.emplace_back(split->pattern);
  }
}

void Splitter::split(std::string_view text, const OnPiece& on_piece) {
  on_piece_ = &on_piece;
  if (!text.empty()) run(0, {text, 0, 0});
}

void Splitter::run(size_t stage, const TextPiece& piece) {
  if (stage == stages_.size()) return (*on_piece_)(piece);
  std::visit([&](const auto& rule) { run(stage, rule, piece); }, stages_[stage]);
}

void Splitter::run(size_t stage, const SplitStage& rule, const TextPiece& piece) {
  const auto next = [&](ByteRange part) {
    const size_t added = part.begin < piece.added ? piece.added - part.begin : 0;
    const size_t begin = part.begin < piece.added ? piece.begin : piece.begin + part.begin - piece.added;
    run(stage + 1, {piece.text.substr(part.begin, part.end - part.begin), begin, added});
  };
  PartsOfPiece parts(rule.behavior, next);
  RegexSearch& search = searches_[search_of_[stage]];
  for (size_t at = 0; at < piece.text.size();) {
    const ByteRange match = search.find(piece.text, at);
    parts.add({at, match.begin}, rule.invert);
    parts.add(match, !rule.invert);
    at = match.end;
  }
  parts.finish();
}

void Splitter::run(size_t stage, const PrefixSpaceStage&, const TextPiece& piece) {
  if (piece.text.starts_with(' ')) return run(stage + 1, piece);
  const std::string prefixed = " " + std::string(piece.text);
  run(stage + 1, {prefixed, piece.begin, piece.added + 1});
}

}  // namespace strand
