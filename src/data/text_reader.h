#pragma once
// Documents out of text files, one after another, in bounded memory.
//   .txt            one document a file
//   .jsonl, .json   one JSON object a line, the document is its "text" (blank lines are skipped)
// each plain, .gz (any number of members) or .zst (any number of frames); a byte-order mark at the start is dropped.
//
// A .txt longer than `max_part` comes in several parts, cut *before* a newline, so that one file may be larger than
// memory; only the first has `begins`, only the last has `ends`. A line of a .txt or of JSON longer than `max_line` is
// an error: it is what bounds the memory.
//
// Text must be UTF-8. Every error names the file and the line (.jsonl) or the byte of the decompressed text (.txt).
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace strand {

struct Document {
  std::string text;
  bool begins = true;
  bool ends = true;
};

struct TextLimits {
  size_t max_part = size_t{1} << 20;   ///< bytes, at least
  size_t max_line = size_t{16} << 20;  ///< bytes
};

class TextReader {
 public:
  explicit TextReader(const std::string& path, TextLimits limits = {});
  ~TextReader();
  TextReader(TextReader&&) noexcept;
  TextReader& operator=(TextReader&&) noexcept;

  /// False at the end of the file. An empty .txt is one empty document.
  bool next(Document& document);

  class Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// Whether the name ends as one of the formats above.
bool is_text_file(const std::string& path);

struct TextFiles {
  std::vector<std::string> paths;    ///< in the order they are read
  std::vector<std::string> ignored;  ///< files found in directories that are no text files by their names
};

/// Files as given; directories recursively, sorted by path, without hidden files. Throws Error for what does not exist,
/// for a named file of unknown format, and when nothing is left to read.
TextFiles list_text_files(const std::vector<std::string>& inputs);

}  // namespace strand
