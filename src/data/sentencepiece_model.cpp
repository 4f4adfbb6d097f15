#include "data/sentencepiece_model.h"

#include <cstring>

#include "core/error.h"

namespace strand {

namespace {
/// The fields of one protocol-buffer message, in the order of the file. Every length is checked against the bytes that
/// are left.
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {}

  /// Moves to the next field. Returns false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const std::string_view before = rest_;
    read_value();
    raw_ = before.substr(0, before.size() - rest_.size());
    return true;
  }

  uint64_t number() const { return number_; }
  uint64_t integer() const { return expect(0), number_value_; }
  bool flag() const { return integer() != 0; }
  std::string_view text() const { return expect(2), text_; }
  float real() const {
    expect(5);
    float value;
    std::memcpy(&value, text_.data(), sizeof(value));
    return value;
  }
  /// The field as it stands in the file, with its number and its length.
  std::string_view raw() const { return raw_; }

 private:
  void read_value() {
    const uint64_t key = read_varint();
    number_ = key >> 3;
    wire_ = static_cast<int>(key & 7);
    number_value_ = 0;
    text_ = {};
    switch (wire_) {
      case 0:
        number_value_ = read_varint();
        return;
      case 1:
        text_ = take(8);
        return;
      case 2:
        text_ = take(read_varint());
        return;
      case 5:
        text_ = take(4);
        return;
      default:
        fail("{}: no SentencePiece model: wire type {} in its protocol buffer", name_, wire_);
    }
  }

  void expect(int wire) const {
    require(wire_ == wire, "{}: no SentencePiece model: field {} has wire type {}", name_, number_, wire_);
  }

  std::string_view take(uint64_t count) {
    require(count <= rest_.size(), "{}: no SentencePiece model: a field of {} bytes where {} are left", name_, count,
            rest_.size());
    const std::string_view taken = rest_.substr(0, static_cast<size_t>(count));
    rest_.remove_prefix(static_cast<size_t>(count));
    return taken;
  }

  uint64_t read_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail("{}: no SentencePiece model: an endless number in its protocol buffer", name_);
  }

  std::string_view rest_;
  const std::string& name_;
  uint64_t number_ = 0;
  int wire_ = 0;
  uint64_t number_value_ = 0;
  std::string_view text_;
  std::string_view raw_;
};

// Field numbers of sentencepiece_model.proto.
Piece parse_piece(std::string_view bytes, const std::string& name) {
  Piece piece;
  for (Fields f(bytes, name); f.next();) {
    if (f.number() == 1) piece.text = f.text();
    if (f.number() == 2) piece.score = f.real();
    if (f.number() == 3) {
      require(f.integer() >= 1 && f.integer() <= 6, "{}: a piece of unknown type {}", name, f.integer());
      piece.type = static_cast<PieceType>(f.integer());
    }
  }
  return piece;
}

void parse_trainer(std::string_view bytes, const std::string& name, SentencePieceModel& model) {
  for (Fields f(bytes, name); f.next();) {
    if (f.number() == 3) {
      require(f.integer() >= 1 && f.integer() <= 4, "{}: unknown model type {}", name, f.integer());
      model.algorithm = static_cast<SentencePieceModel::Algorithm>(f.integer());
    }
    if (f.number() == 24) model.whitespace_as_suffix = f.flag();
    if (f.number() == 35) model.byte_fallback = f.flag();
  }
}

void parse_normalizer(std::string_view bytes, const std::string& name, SentencePieceModel& model) {
  for (Fields f(bytes, name); f.next();) {
    if (f.number() == 2) model.charsmap = f.text();
    if (f.number() == 3) model.add_dummy_prefix = f.flag();
    if (f.number() == 4) model.remove_extra_whitespaces = f.flag();
    if (f.number() == 5) model.escape_whitespaces = f.flag();
  }
}
}  // namespace

SentencePieceModel SentencePieceModel::parse(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  for (Fields f(bytes, name); f.next();) {
    if (f.number() == 1) model.pieces.push_back(parse_piece(f.text(), name));
    if (f.number() == 2) parse_trainer(f.text(), name, model);
    if (f.number() == 3) parse_normalizer(f.text(), name, model);
  }
  require(!model.pieces.empty(), "{}: no SentencePiece model: it has no pieces", name);
  return model;
}

std::string with_text_ends(std::string_view model, TextEnds ends, const std::string& name) {
  constexpr uint64_t normalizer_field = 3, self_test_field = 4;
  std::string bytes;
  for (Fields f(model, name); f.next();) {
    if (f.number() != self_test_field) bytes += f.raw();
  }
  // A message that occurs twice is merged, and the later value of a field counts.
  const auto field = [](uint64_t number, int wire) {
    return static_cast<char>(number << 3 | static_cast<uint64_t>(wire));
  };
  const auto flag = [](bool value) { return static_cast<char>(value ? 1 : 0); };
  const std::string settings = {field(3, 0), flag(ends.add_dummy_prefix), field(4, 0),
                                flag(ends.remove_extra_whitespaces)};
  bytes += field(normalizer_field, 2);
  bytes += static_cast<char>(settings.size());
  return bytes + settings;
}

}  // namespace strand
