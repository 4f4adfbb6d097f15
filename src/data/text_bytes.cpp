#include "data/text_bytes.h"

#include <numbers>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>

#include "data/bpe/byte_alphabet.h"

namespace strand {

namespace {
/// SentencePiece spells a space as "▁", which has three bytes.
int32_t bytes_of(const SentencePieceModel& model, const Piece& piece) {
  switch (piece.type) {
    case PieceType::byte:
      return 1;
    case PieceType::control:
    case PieceType::unknown:
      return 0;
    case PieceType::normal:
    case PieceType::user_defined:
    case PieceType::unused:
      break;
  }
  constexpr std::string_view space = "▁";
  size_t bytes = piece.text.size();
  if (!model.escape_whitespaces) return static_cast<int32_t>(bytes);
  for (size_t at = piece.text.find(space); at != std::string::npos; at = piece.text.find(space, at + space.size()))
    bytes -= space.size() - 1;
  return static_cast<int32_t>(bytes);
}

std::vector<int32_t> by_id(const Tokenizer& tokenizer, const SentencePieceModel& model) {
  std::vector<int32_t> bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    bytes.push_back(bytes_of(model, model.pieces[static_cast<size_t>(id)]));
  return bytes;
}

/// Byte-level BPE spells each byte as one character; an added token stands for its own text.
std::vector<int32_t> by_id(const Tokenizer& tokenizer, const TokenizerJson& json) {
  std::set<int32_t> added;
  for (const AddedToken& token : json.added) added.insert(token.id);
  std::vector<int32_t> bytes;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string& piece = tokenizer.piece(id);
    const std::optional<std::string> text = added.contains(id) ? std::nullopt : read_spelled(piece);
    bytes.push_back(tokenizer.is_control(id) ? 0 : static_cast<int32_t>(text ? text->size() : piece.size()));
  }
  return bytes;
}
}  // namespace

std::vector<int32_t> text_bytes_by_id(const Tokenizer& tokenizer) {
  return std::visit([&](const auto& description) { return by_id(tokenizer, description); }, tokenizer.description());
}

int64_t text_bytes(std::span<const int32_t> targets, const std::vector<int32_t>& by_id) {
  int64_t bytes = 0;
  for (const int32_t id : targets)
    if (id >= 0 && static_cast<size_t>(id) < by_id.size()) bytes += by_id[static_cast<size_t>(id)];
  return bytes;
}

double bits_per_byte(double cross_entropy, int64_t tokens, int64_t bytes) {
  return cross_entropy * static_cast<double>(tokens) / (static_cast<double>(bytes) * std::numbers::ln2);
}

}  // namespace strand
