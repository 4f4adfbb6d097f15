#include "data/text_reader.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "data/byte_source.h"
#include "data/json_record.h"
#include "data/utf8.h"

namespace strand {

namespace {
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

// The bytes with which a file begins that is not UTF-8 text.
struct Signature {
  std::string_view bytes;
  const char* message;  // a format string, into which `name` is put
  const char* name;
};
using namespace std::string_view_literals;
constexpr const char* not_utf8 = "not UTF-8 text but {0}; convert it first (iconv -f {0} -t UTF-8)";
constexpr const char* compressed = "not text but {} data; decompress it, or give it the name of what it is";
constexpr Signature signatures[] = {{"\xFF\xFE\0\0"sv, not_utf8, "UTF-32"},  // before UTF-16, which begins it
                                    {"\0\0\xFE\xFF"sv, not_utf8, "UTF-32"},
                                    {"\xFF\xFE"sv, not_utf8, "UTF-16"},
                                    {"\xFE\xFF"sv, not_utf8, "UTF-16"},
                                    {"{\0"sv, not_utf8, "UTF-16LE"},
                                    {"\0{"sv, not_utf8, "UTF-16BE"},
                                    {"\x1F\x8B"sv, compressed, "gzip"},
                                    {"\x28\xB5\x2F\xFD"sv, compressed, "zstd"},
                                    {"\xFD\x37zXZ\0"sv, compressed, "xz"}};
constexpr size_t longest_signature = 6;

bool is_jsonl(const std::string& path) {
  const std::string name = without_compression_suffix(path);
  return name.ends_with(".jsonl") || name.ends_with(".json");
}
}  // namespace

// A growing window over the decompressed bytes.
class TextReader::Impl {
 public:
  Impl(std::string path, TextOptions options, TextCounts* counts)
      : path_(std::move(path)),
        options_(std::move(options)),
        counts_(counts != nullptr ? *counts : own_counts_),
        source_(open_byte_source(path_)) {
    require(is_text_file(path_), "{} is no text file by its name: .txt, .jsonl or .json, plain, .gz or .zst", path_);
    while (window_.size() < longest_signature && fill()) {
    }
    for (const Signature& signature : signatures)
      if (window_.starts_with(signature.bytes))
        fail("{}: {}", path_, fmt::format(fmt::runtime(signature.message), signature.name));
    if (window_.starts_with(byte_order_mark)) consume(byte_order_mark.size());
  }
  virtual ~Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual bool next(Document& document) = 0;

 protected:
  // The bytes in the window that are not read yet.
  std::string_view unread() const { return std::string_view(window_).substr(begin_); }
  bool fill() {
    if (begin_ > 0 && begin_ >= window_.size() / 2) {
      window_.erase(0, begin_);
      begin_ = 0;
    }
    const size_t size = window_.size();
    window_.resize(size + TextReader::read_bytes);
    const size_t got = at_end_ ? 0 : source_->read(window_.data() + size, TextReader::read_bytes);
    window_.resize(size + got);
    at_end_ = got == 0;
    return got > 0;
  }
  void consume(size_t bytes) {
    begin_ += bytes;
    offset_ += bytes;
  }

  const std::string path_;
  const TextOptions options_;
  TextCounts& counts_;
  uint64_t offset_ = 0;  // position of unread() in the decompressed text

  bool at_end() const { return at_end_; }  // fill() will bring nothing more

 private:
  TextCounts own_counts_;
  std::unique_ptr<ByteSource> source_;
  std::string window_;
  size_t begin_ = 0;
  bool at_end_ = false;
};

namespace {

constexpr size_t npos = std::string_view::npos;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == npos;
}

class PlainTextReader : public TextReader::Impl {
 public:
  using Impl::Impl;

  bool next(Document& document) override {
    const bool split = options_.splitting.kind != Splitting::Kind::none;
    while (!done_) {
      if (split && begins_) drop_line_breaks();
      const Part part = find_part();
      const std::string_view text = unread().substr(0, part.length);
      check_utf8(text);
      const bool nothing = split && begins_ && part.ends && is_blank(text);
      document = {nothing ? std::string() : std::string(text), begins_, part.ends};
      consume(part.consumed);
      begins_ = part.ends;
      if (!nothing) return true;
    }
    return false;
  }

 private:
  struct Part {
    size_t length;
    size_t consumed;  // bytes of the document and of the separator after it
    bool ends;
  };

  void check_utf8(std::string_view text) const {
    const size_t bad = first_invalid_utf8(text);
    if (bad == text.size()) return;
    fail("{}: not UTF-8 at byte {} of the text; convert it first (iconv -f ENCODING -t UTF-8)", path_, offset_ + bad);
  }

  // Line breaks before a document are not part of it.
  void drop_line_breaks() {
    for (;;) {
      if (unread().size() < 2 && fill()) continue;
      if (unread().starts_with("\r\n")) {
        consume(2);
      } else if (unread().starts_with('\n')) {
        consume(1);
      } else {
        return;
      }
    }
  }

  Part find_part() {
    size_t undecided = 0, uncut = options_.max_part;
    for (;;) {
      const std::string_view text = unread();
      const MoreText more = at_end() ? MoreText::never_follows : MoreText::may_follow;
      const Separator separator = find_separator(options_.splitting, text, undecided, more);
      if (separator.found()) {
        // Its end came with a block that passed the limit.
        if (separator.begin > options_.max_document) {
          const size_t cut = options_.find_cut ? options_.find_cut(text.substr(0, separator.begin), uncut) : npos;
          require(cut != npos, "{}", too_long());
          return {cut, cut, false};
        }
        ++counts_.separators;
        if (at_end() && separator.end == text.size()) done_ = true;
        return {separator.begin, separator.end, true};
      }
      undecided = separator.undecided;
      if (text.size() > options_.max_part) {
        const size_t cut = options_.find_cut ? options_.find_cut(text.substr(0, undecided), uncut) : npos;
        if (cut != npos) return {cut, cut, false};
        uncut = std::max(uncut, undecided);
        require((at_end() ? text.size() : undecided) <= options_.max_document, "{}", too_long());
      }
      if (at_end()) {
        done_ = true;
        return {text.size(), text.size(), true};
      }
      fill();
    }
  }

  std::string too_long() const {
    return fmt::format(
        "{}: from byte {} of the text on, more than {} bytes would have to be held in memory at once, because the "
        "tokenizer allows no cut there; --max-document allows more, --split-documents makes several documents of a "
        ".txt",
        path_, offset_, options_.max_document);
  }

  bool begins_ = true;
  bool done_ = false;
};

class JsonLinesReader : public TextReader::Impl {
 public:
  using Impl::Impl;

  bool next(Document& document) override {
    for (;;) {
      const size_t length = line_length();
      if (length == 0) return false;
      ++line_;
      const bool found = read_record(unread().substr(0, length), document);
      consume(length);
      if (found) return true;
    }
  }

 private:
  // The number of bytes up to and including the next newline, or to the end of the text; 0 when nothing is left.
  size_t line_length() {
    size_t searched = 0;
    for (;;) {
      const std::string_view text = unread();
      const size_t newline = text.find('\n', searched);
      const size_t length = std::min(newline, text.size());
      searched = text.size();
      if (length > options_.max_document) {
        bad_record(line_ + 1, fmt::format("longer than {} bytes; --max-document allows more", options_.max_document));
        drop_line();
        searched = 0;
        continue;
      }
      if (newline != npos) return newline + 1;
      if (!fill()) return unread().size();
    }
  }

  // Skips the line that begins here, which is too long to be held.
  void drop_line() {
    ++line_;
    for (;;) {
      const size_t newline = unread().find('\n');
      consume(newline == npos ? unread().size() : newline + 1);
      if (newline != npos || !fill()) return;
    }
  }

  bool read_record(std::string_view line, Document& document) {
    if (is_blank(line)) return false;
    try {
      RecordText record = record_text(line, options_.text_key);
      counts_.replaced_surrogates += record.replaced;
      document = {std::move(record.text), true, true};
      return true;
    } catch (const Error& error) {
      bad_record(line_, error.what());
      return false;
    }
  }

  // Counts and names a bad record. Throws Error when no more records may be skipped.
  void bad_record(uint64_t line, const std::string& problem) {
    const uint64_t allowed = options_.skip_bad_records;
    const std::string message = fmt::format("{}: line {}: {}", path_, line, problem);
    if (counts_.skipped_records >= allowed) {
      fail("{}{}", message,
           allowed == 0 ? std::string("; --skip-bad-records N leaves out up to N such lines")
                        : fmt::format("; {} bad records were skipped before this one", allowed));
    }
    ++counts_.skipped_records;
    log_warning(fmt::format("{}; skipped ({} of at most {})", message, counts_.skipped_records, allowed));
  }

  uint64_t line_ = 0;
};

}  // namespace

TextReader::TextReader(const std::string& path, TextOptions options, TextCounts* counts) {
  if (is_jsonl(path)) {
    impl_ = std::make_unique<JsonLinesReader>(path, std::move(options), counts);
  } else {
    impl_ = std::make_unique<PlainTextReader>(path, std::move(options), counts);
  }
}

TextReader::~TextReader() = default;
TextReader::TextReader(TextReader&&) noexcept = default;
TextReader& TextReader::operator=(TextReader&&) noexcept = default;

bool TextReader::next(Document& document) {
  return impl_->next(document);
}

std::string to_string(const TextCounts& counts) {
  std::string text;
  if (counts.skipped_records > 0) text += fmt::format("; {} bad records skipped", counts.skipped_records);
  if (counts.replaced_surrogates > 0) {
    text += fmt::format("; {} lone surrogates replaced by U+FFFD", counts.replaced_surrogates);
  }
  return text;
}

bool is_text_file(const std::string& path) {
  return is_jsonl(path) || without_compression_suffix(path).ends_with(".txt");
}

}  // namespace strand
