#pragma once
// The heart of byte-pair encoding (Sennrich et al. 2016): a piece begins as one token a byte, and of all neighbouring
// pairs that have a merge the one of the lowest rank is merged, the leftmost first, until no pair has one.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

/// Finds the id of a text. It is filled once.
class TokenTable {
 public:
  /// `texts` by id; empty texts are no tokens. They must outlive the table, and be distinct.
  explicit TokenTable(const std::vector<std::string>& texts);
  /// -1 when no token has this text.
  int32_t find(std::string_view text) const;

 private:
  const std::vector<std::string>& texts_;
  std::vector<int32_t> slots_;
  size_t mask_ = 0;
};

struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t whole = 0;  ///< the token whose text is that of both
};

/// Finds what a pair of tokens becomes, and how early.
class MergeTable {
 public:
  static constexpr uint32_t no_rank = UINT32_MAX;
  struct Found {
    uint32_t rank = no_rank;
    int32_t whole = -1;
  };

  /// `merges` in the order of their ranks. Of equal pairs the last counts, as in Hugging Face's tokenizers.
  explicit MergeTable(const std::vector<Merge>& merges);
  Found find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair = UINT64_MAX;  ///< no id is so large
    Found found;
  };
  size_t place_of(uint64_t pair) const;

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

/// A token of a piece, and the bytes of the piece that it stands for.
struct PieceToken {
  int32_t id = 0;
  uint32_t bytes = 0;
};

class PieceEncoder {
 public:
  struct Options {
    bool ignore_merges = false;  ///< a piece that is a token becomes that token, whatever the merges make of it
    int32_t unknown = -1;        ///< the token of a byte that has none; -1 = such a byte gives no token
    bool fuse_unknown = false;   ///< neighbouring unknown bytes become one token
  };

  /// `texts` are the bytes of the tokens by id, and outlive the encoder. Texts of tokens that no merge can make (added
  /// ones) are empty.
  PieceEncoder(const std::vector<std::string>& texts, const std::vector<Merge>& merges, Options options);

  /// Appends the tokens of a piece of less than 2^31 bytes.
  void encode(std::string_view piece, std::vector<PieceToken>& tokens) const;

 private:
  void merge(std::string_view piece, std::vector<PieceToken>& tokens) const;
  void merge_short(size_t first, std::vector<PieceToken>& tokens) const;
  void merge_long(size_t first, std::vector<PieceToken>& tokens) const;
  void add_bytes(std::string_view piece, std::vector<PieceToken>& tokens) const;

  /// Whether the merges make the token itself of its text. That is found out when a text meets the token first.
  enum class Whole : uint8_t { unknown, yes, no };

  Options options_;
  TokenTable table_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;
  std::unique_ptr<std::atomic<Whole>[]> whole_;  ///< by id
};

}  // namespace strand
