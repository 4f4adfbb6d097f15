#pragma once
// Tokens that are found in a text before it is split: special tokens such as "<|endoftext|>" and other added ones.
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace strand {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      ///< it means something to the model and is no text
  bool single_word = false;  ///< it is found only where no word character stands beside it
  bool lstrip = false;       ///< it takes the white space before it
  bool rstrip = false;       ///< and after it
  bool normalized = false;   ///< it is looked for in the normalized text, and not in the original one
};

/// A stretch [begin, end) of a text: an added token, or text between two of them.
struct TextStretch {
  size_t begin = 0;
  size_t end = 0;
  int32_t token = -1;  ///< the id; -1 = text
};

class AddedTokenFinder {
 public:
  /// The contents are what is looked for; none is empty.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// The stretches of well-formed UTF-8, none of them empty. Where contents overlap, the one that begins first is taken,
  /// and of those the longest. Contents within the white space that a token with rstrip takes are found too, and so is
  /// the text behind them: stretches may then overlap, as they do in Hugging Face's tokenizers.
  std::vector<TextStretch> split(std::string_view text) const;

 private:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
    const AddedToken* token = nullptr;  ///< null = none
  };
  Match find(std::string_view text, size_t from) const;

  std::vector<AddedToken> tokens_;
  /// A trie of the contents. The key is the number of a node times 256 plus a byte; node 0 is the root.
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> token_at_;  ///< by node: an index in tokens_, or -1
  std::vector<bool> begins_;       ///< by byte: whether any content begins with it
};

}  // namespace strand
