#include "data/text_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "data/byte_source.h"
#include "data/utf8.h"

namespace strand {

namespace {
constexpr size_t read_bytes = size_t{1} << 16;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

bool is_jsonl(const std::string& path) {
  const std::string name = without_compression_suffix(path);
  return name.ends_with(".jsonl") || name.ends_with(".json");
}
}  // namespace

// A growing window over the decompressed bytes.
class TextReader::Impl {
 public:
  Impl(std::string path, TextLimits limits)
      : path_(std::move(path)), limits_(limits), source_(open_byte_source(path_)) {
    require(is_text_file(path_), "{} is no text file by its name: .txt, .jsonl or .json, plain, .gz or .zst", path_);
    while (window_.size() < byte_order_mark.size() && fill()) {
    }
    if (window_.starts_with(byte_order_mark)) consume(byte_order_mark.size());
  }
  virtual ~Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual bool next(Document& document) = 0;

 protected:
  // The unread bytes, and more of them. False when the source is at its end.
  std::string_view unread() const { return std::string_view(window_).substr(begin_); }
  bool fill() {
    if (begin_ > 0 && begin_ >= window_.size() / 2) {
      window_.erase(0, begin_);
      begin_ = 0;
    }
    const size_t size = window_.size();
    window_.resize(size + read_bytes);
    const size_t got = at_end_ ? 0 : source_->read(window_.data() + size, read_bytes);
    window_.resize(size + got);
    at_end_ = got == 0;
    return got > 0;
  }
  void consume(size_t bytes) {
    begin_ += bytes;
    offset_ += bytes;
  }

  const std::string path_;
  const TextLimits limits_;
  uint64_t offset_ = 0;  // of unread() in the decompressed text

 private:
  std::unique_ptr<ByteSource> source_;
  std::string window_;
  size_t begin_ = 0;
  bool at_end_ = false;
};

namespace {

// What the JSON library says is wrong, without the text it quotes, which may be megabytes.
std::string json_message(const nlohmann::json::exception& error) {
  const std::string message = error.what();
  return message.substr(0, message.find("; last read"));
}

class PlainTextReader : public TextReader::Impl {
 public:
  using Impl::Impl;

  bool next(Document& document) override {
    if (done_) return false;
    document.begins = !started_;
    started_ = true;
    const size_t length = part_length();
    document.text.assign(unread().substr(0, length));
    document.ends = done_;
    const size_t bad = first_invalid_utf8(document.text);
    require(bad == document.text.size(), "{}: not UTF-8 at byte {} of the text; convert it first (iconv -t UTF-8)",
            path_, offset_ + bad);
    consume(length);
    return true;
  }

 private:
  // Bytes of the next part; sets done_ when it is the last.
  size_t part_length() {
    size_t searched = 1;  // a part that starts with a newline must not be cut before that one
    for (;;) {
      const std::string_view text = unread();
      if (text.size() > limits_.max_part) {
        const size_t cut = text.find('\n', std::max(searched, limits_.max_part));
        if (cut != std::string_view::npos) return cut;
        searched = std::max(searched, text.size());
        require(text.size() <= limits_.max_part + limits_.max_line,
                "{}: the line that holds byte {} of the text is longer than {} bytes", path_,
                offset_ + limits_.max_part, limits_.max_line);
      }
      if (!fill()) {
        done_ = true;
        return unread().size();
      }
    }
  }

  bool started_ = false;
  bool done_ = false;
};

class JsonLinesReader : public TextReader::Impl {
 public:
  using Impl::Impl;

  bool next(Document& document) override {
    document.begins = document.ends = true;
    for (;;) {
      const size_t length = line_length();
      if (length == 0) return false;
      ++line_;
      const std::string_view line = unread().substr(0, length);
      const bool blank = line.find_first_not_of(" \t\r\n") == std::string_view::npos;
      if (!blank) document.text = parse(line);
      consume(length);
      if (!blank) return true;
    }
  }

 private:
  // Bytes up to and including the next newline, or to the end; 0 when nothing is left.
  size_t line_length() {
    size_t searched = 0;
    for (;;) {
      const std::string_view text = unread();
      const size_t newline = text.find('\n', searched);
      if (newline != std::string_view::npos) return newline + 1;
      searched = text.size();
      require(text.size() <= limits_.max_line, "{}: line {} is longer than {} bytes", path_, line_ + 1,
              limits_.max_line);
      if (!fill()) return unread().size();
    }
  }

  std::string parse(std::string_view line) const {
    nlohmann::json object;
    try {
      object = nlohmann::json::parse(line.begin(), line.end());
    } catch (const nlohmann::json::exception& error) {
      const size_t bad = first_invalid_utf8(line);
      if (bad < line.size()) fail("{}: line {}: not UTF-8 at byte {} of the line", path_, line_, bad);
      fail("{}: line {}: bad JSON: {}", path_, line_, json_message(error));
    }
    require(object.is_object(), "{}: line {}: a JSON object was expected, this is a {}", path_, line_,
            object.type_name());
    const auto text = object.find("text");
    require(text != object.end(), "{}: line {}: the object has no \"text\"", path_, line_);
    require(text->is_string(), "{}: line {}: \"text\" is a {}, not a string", path_, line_, text->type_name());
    return std::move(text->get_ref<std::string&>());
  }

  uint64_t line_ = 0;
};

}  // namespace

TextReader::TextReader(const std::string& path, TextLimits limits) {
  if (is_jsonl(path)) {
    impl_ = std::make_unique<JsonLinesReader>(path, limits);
  } else {
    impl_ = std::make_unique<PlainTextReader>(path, limits);
  }
}

TextReader::~TextReader() = default;
TextReader::TextReader(TextReader&&) noexcept = default;
TextReader& TextReader::operator=(TextReader&&) noexcept = default;

bool TextReader::next(Document& document) {
  return impl_->next(document);
}

bool is_text_file(const std::string& path) {
  return is_jsonl(path) || without_compression_suffix(path).ends_with(".txt");
}

TextFiles list_text_files(const std::vector<std::string>& inputs) {
  namespace fs = std::filesystem;
  TextFiles files;
  for (const std::string& input : inputs) {
    std::error_code error;
    const fs::file_status status = fs::status(input, error);
    require(fs::exists(status), "no such text file or directory: {}", input);
    if (!fs::is_directory(status)) {
      require(is_text_file(input), "{} is no text file by its name: .txt, .jsonl or .json, plain, .gz or .zst", input);
      files.paths.push_back(input);
      continue;
    }
    std::vector<std::string> found;
    for (fs::recursive_directory_iterator entry(input, error), end; !error && entry != end; entry.increment(error)) {
      const bool hidden = entry->path().filename().string().starts_with('.');
      if (hidden && entry->is_directory(error)) entry.disable_recursion_pending();
      if (!hidden && entry->is_regular_file(error)) found.push_back(entry->path().string());
    }
    require(!error, "cannot list {}: {}", input, error.message());
    std::sort(found.begin(), found.end());
    for (std::string& path : found) (is_text_file(path) ? files.paths : files.ignored).push_back(std::move(path));
  }
  require(!files.paths.empty(), "there is no text file to read (.txt, .jsonl or .json, plain, .gz or .zst)");
  return files;
}

}  // namespace strand
