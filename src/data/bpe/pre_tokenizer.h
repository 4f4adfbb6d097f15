#pragma once
// Splits a normalized text into the pieces inside which BPE merges: the pre_tokenizer of a tokenizer.json. Each stage
// splits the pieces of the stage before.
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/bpe/regex.h"

namespace strand {

/// What becomes of the matches of a pattern: pieces of their own, nothing, or the end of the piece before (unless that
/// is a match itself).
enum class SplitBehavior { isolated, removed, merged_with_previous };

struct SplitStage {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  ///< what does not match is treated as a match, and the other way round
};
/// Puts a space before each piece that does not begin with one (ByteLevel's add_prefix_space).
struct PrefixSpaceStage {};
using SplitterStage = std::variant<SplitStage, PrefixSpaceStage>;

/// A piece of a text. `text` is the bytes of the text from `begin` on, after `added` bytes that are not in it.
struct TextPiece {
  std::string_view text;
  size_t begin = 0;
  size_t added = 0;
};

/// The memory that splitting needs, for one thread. The stages must outlive it.
class Splitter {
 public:
  using OnPiece = std::function<void(const TextPiece&)>;
  explicit Splitter(const std::vector<SplitterStage>& stages);
  /// Calls `on_piece` for each piece of well-formed UTF-8, in order. A piece is valid during the call.
  void split(std::string_view text, const OnPiece& on_piece);

 private:
  void run(size_t stage, const TextPiece& piece);
  void run(size_t stage, const SplitStage& rule, const TextPiece& piece);
  void run(size_t stage, const PrefixSpaceStage& rule, const TextPiece& piece);

  const std::vector<SplitterStage>& stages_;
  std::vector<RegexSearch> searches_;  ///< of each SplitStage
  std::vector<size_t> search_of_;      ///< by stage
  const OnPiece* on_piece_ = nullptr;
};

// The patterns of families of models, as their tokenizer.json files spell them.
extern const char* const gpt2_pattern;                     ///< with which ByteLevel splits when it has use_regex
extern const char* const qwen2_pattern;                    ///< Qwen 2, 2.5 and 3
extern const char* const llama3_pattern;                   ///< Llama 3
extern const char* const bailing2_pattern;                 ///< Ling 2.0
extern const std::vector<std::string> deepseek2_patterns;  ///< DeepSeek v1 and V2, by stage
extern const std::vector<std::string> deepseek3_patterns;  ///< DeepSeek V3, by stage

}  // namespace strand
