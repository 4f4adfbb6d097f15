#include "data/json_record.h"

#include <optional>
#include <vector>

#include "core/error.h"
#include "data/utf8.h"

namespace strand {

namespace {
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

void append_utf8(std::string& text, uint32_t c) {
  const auto byte = [&](uint32_t value) { text += static_cast<char>(value); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xC0 | c >> 6);
    byte(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    byte(0xE0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  } else {
    byte(0xF0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3F));
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  }
}

bool is_high_surrogate(uint32_t c) {
  return c >= 0xD800 && c < 0xDC00;
}
bool is_low_surrogate(uint32_t c) {
  return c >= 0xDC00 && c < 0xE000;
}

class RecordReader {
 public:
  RecordReader(std::string_view line, const std::string& key) : line_(line), key_(key) {
    // A file with a byte-order mark may have been appended to another one.
    if (line_.starts_with(byte_order_mark)) at_ = byte_order_mark.size();
  }

  RecordText read() {
    skip_space();
    if (here() != '{') {
      require(!ended(), "bad JSON: the line is empty");
      fail("a JSON object was expected, this is {}{}", kind_of_value(),
           here() == '[' ? "; one object a line is read, and jq -c '.[]' makes such lines of an array" : "");
    }
    ++at_;
    skip_space();
    require(!ended(),
            "bad JSON: the line ends within the object; one object a line is read, and jq -c . makes such lines");
    std::optional<RecordText> found;
    if (here() == '}') {
      ++at_;
    } else {
      do {
        read_member(found);
      } while (another_member());
    }
    skip_space();
    require(ended(), "bad JSON at byte {} of the line: something follows the object", at_);
    require(found.has_value() || other_kind_ == nullptr, "\"{}\" is {}, not a string", key_, other_kind_);
    require(found.has_value(), "the object has no \"{}\"", key_);
    return std::move(*found);
  }

 private:
  bool ended() const { return at_ == line_.size(); }
  char here() const { return ended() ? '\0' : line_[at_]; }

  void skip_space() {
    while (here() == ' ' || here() == '\t' || here() == '\n' || here() == '\r') ++at_;
  }

  [[noreturn]] void fail_here(const char* expected) const {
    if (ended()) fail("bad JSON: the line breaks off where {} was expected", expected);
    fail("bad JSON at byte {} of the line: {} was expected", at_, expected);
  }

  void read_member(std::optional<RecordText>& found) {
    skip_space();
    if (here() != '"') fail_here("a key in quotes");
    const size_t begin = at_;
    skip_string();
    const bool wanted = is_wanted(line_.substr(begin + 1, at_ - begin - 2));
    skip_space();
    if (here() != ':') fail_here("a colon");
    ++at_;
    skip_space();
    if (!wanted) return skip_value();
    // Of several members with the key the last one counts, as in other JSON libraries.
    found.reset();
    if (here() == '"') {
      found = read_string();
    } else {
      other_kind_ = kind_of_value();
      skip_value();
    }
  }

  bool another_member() {
    skip_space();
    const char c = here();
    if (c != ',' && c != '}') fail_here("a comma or a closing brace");
    ++at_;
    return c == ',';
  }

  // Whether the raw text of a key (without its quotes) spells the one that is wanted, perhaps with escapes.
  bool is_wanted(std::string_view raw) {
    if (raw.find('\\') == std::string_view::npos) return raw == key_;
    const std::string quoted = fmt::format("\"{}\"", raw);
    try {
      return RecordReader(quoted, key_).read_string().text == key_;
    } catch (const Error&) {
      return false;  // it is not valid JSON, so it is not the key that is wanted
    }
  }

  const char* kind_of_value() const {
    if (ended()) return "missing";
    switch (here()) {
      case '{':
        return "an object";
      case '[':
        return "an array";
      case '"':
        return "a string";
      case 't':
      case 'f':
        return "true or false";
      case 'n':
        return "null";
      default:
        return static_cast<unsigned char>(here()) < 0x20 ? "a control character" : "a number or a bare word";
    }
  }

  // Moves to the byte after the closing quote.
  void skip_string() {
    for (++at_; !ended(); ++at_) {
      if (line_[at_] == '"') {
        ++at_;
        return;
      }
      if (line_[at_] == '\\' && ++at_ == line_.size()) break;
    }
    fail("bad JSON: the line breaks off within a string");
  }

  void skip_value() {
    std::vector<char> open;  // closing brackets that are still to come
    do {
      const char c = here();
      if (c == '"') {
        skip_string();
      } else if (c == '{' || c == '[') {
        open.push_back(c == '{' ? '}' : ']');
        ++at_;
      } else if (!open.empty() && (c == '}' || c == ']')) {
        if (c != open.back()) fail_here(open.back() == '}' ? "a closing brace" : "a closing bracket");
        open.pop_back();
        ++at_;
      } else if (open.empty()) {
        skip_word();
      } else {
        if (ended()) fail_here(open.back() == '}' ? "a closing brace" : "a closing bracket");
        ++at_;
      }
    } while (!open.empty());
  }

  // Skips a number or a word without quotes.
  void skip_word() {
    const size_t begin = at_;
    while (!ended() && std::string_view(",:}] \t\r\n\"{[").find(line_[at_]) == std::string_view::npos) ++at_;
    if (at_ == begin) fail_here("a value");
  }

  RecordText read_string() {
    RecordText result;
    ++at_;
    for (;;) {
      const size_t begin = at_;
      while (!ended() && line_[at_] != '"' && line_[at_] != '\\' && static_cast<unsigned char>(line_[at_]) >= 0x20)
        ++at_;
      append_raw(begin, result);
      if (ended()) fail("bad JSON: the line breaks off within a string");
      if (line_[at_] == '"') {
        ++at_;
        return result;
      }
      if (line_[at_] != '\\') fail("bad JSON at byte {} of the line: a control character that is not escaped", at_);
      ++at_;
      append_escaped(result);
    }
  }

  // Appends the bytes from `begin` to here. Python's "surrogatepass" writes a surrogate as three bytes, which UTF-8
  // does not allow.
  void append_raw(size_t begin, RecordText& result) {
    std::string_view raw = line_.substr(begin, at_ - begin);
    for (;;) {
      const size_t bad = first_invalid_utf8(raw);
      result.text += raw.substr(0, bad);
      if (bad == raw.size()) return;
      const auto byte = [&](size_t i) { return bad + i < raw.size() ? static_cast<unsigned char>(raw[bad + i]) : 0u; };
      const bool surrogate = byte(0) == 0xED && byte(1) >= 0xA0 && byte(1) <= 0xBF && (byte(2) & 0xC0) == 0x80;
      require(surrogate, "not UTF-8 at byte {} of the line", at_ - raw.size() + bad);
      result.text += replacement_character;
      ++result.replaced;
      raw.remove_prefix(bad + 3);
    }
  }

  void append_escaped(RecordText& result) {
    static constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const char c = here();
    if (c == 'u') {
      ++at_;
      return append_code_unit(result);
    }
    const size_t which = ended() ? std::string_view::npos : letters.find(c);
    if (which == std::string_view::npos) fail_here("one of the characters that may be escaped");
    result.text += meanings[which];
    ++at_;
  }

  void append_code_unit(RecordText& result) {
    const uint32_t first = read_hex();
    if (is_high_surrogate(first) && line_.substr(at_, 2) == "\\u") {
      const size_t back = at_;
      at_ += 2;
      const uint32_t second = read_hex();
      if (is_low_surrogate(second)) {
        return append_utf8(result.text, 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00));
      }
      at_ = back;  // the second escape is not the other half of a pair, and is read again by itself
    }
    if (is_high_surrogate(first) || is_low_surrogate(first)) {
      result.text += replacement_character;
      ++result.replaced;
    } else {
      append_utf8(result.text, first);
    }
  }

  uint32_t read_hex() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = here();
      if (c >= '0' && c <= '9') {
        value = value << 4 | static_cast<uint32_t>(c - '0');
      } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
        value = value << 4 | static_cast<uint32_t>((c | 0x20) - 'a' + 10);
      } else {
        fail_here("a hexadecimal digit");
      }
    }
    return value;
  }

  std::string_view line_;
  const std::string& key_;
  size_t at_ = 0;
  const char* other_kind_ = nullptr;  // what the last value of the key is that was no string
};
}  // namespace

RecordText record_text(std::string_view line, const std::string& key) {
  return RecordReader(line, key).read();
}

}  // namespace strand
