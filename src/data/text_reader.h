#pragma once
// Reads the documents of text files, one after the other, in bounded memory.
//   .txt            one document a file, or several by TextOptions::splitting
//   .jsonl, .json   one JSON object a line; the document is the string under TextOptions::text_key (blank lines are
//                   skipped and other keys are ignored, see json_record.h)
// Each may be plain, .gz (any number of members) or .zst (any number of frames). A byte-order mark at the start is
// dropped.
//
// A document of a .txt that is longer than `max_part` comes in several parts where `find_cut` allows it, so that a file
// may be larger than memory. `begins` is true in the first part only, and `ends` in the last. A document that cannot be
// cut is held in memory as a whole, if it has at most `max_document` bytes. The same holds for a line of JSON.
//
// Text must be UTF-8. Every error names the file and the line (.jsonl) or the byte of the decompressed text (.txt).
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/document_splitter.h"

namespace strand {

struct Document {
  std::string text;
  bool begins = true;
  bool ends = true;
};

struct TextOptions {
  size_t max_part = size_t{1} << 20;        ///< bytes; a part has at least as many, and a shorter document is never cut
  size_t max_document = size_t{128} << 20;  ///< the most bytes that are held at once where no cut is possible
  std::string text_key = "text";
  uint64_t skip_bad_records = 0;  ///< lines of JSON that may be bad before reading fails, over all files of a command
  Splitting splitting;
  /// Returns the first place at or after `from` where a text may be cut, or npos. Without a function no text is cut.
  std::function<size_t(std::string_view text, size_t from)> find_cut;
};

/// What reading left out or replaced, over all files of a command.
struct TextCounts {
  uint64_t skipped_records = 0;      ///< a warning named each of them
  uint64_t replaced_surrogates = 0;  ///< lone surrogates in texts of JSON, replaced by U+FFFD
  uint64_t separators = 0;           ///< places at which a .txt was split
};

/// Text for the end of a summary: "; 2 bad records skipped; 1 lone surrogate replaced by U+FFFD", or "".
std::string to_string(const TextCounts& counts);

class TextReader {
 public:
  static constexpr size_t read_bytes = size_t{1} << 16;  ///< of text, read at a time

  /// What is left out or replaced is added to `counts`, which may be nullptr.
  explicit TextReader(const std::string& path, TextOptions options = {}, TextCounts* counts = nullptr);
  ~TextReader();
  TextReader(TextReader&&) noexcept;
  TextReader& operator=(TextReader&&) noexcept;

  /// Reads the next document, or part of one. Returns false at the end of the file. An empty .txt that is not split is
  /// one empty document. Where files are split, documents without a visible character are left out.
  bool next(Document& document);

  class Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// Whether the name ends as one of the formats above.
bool is_text_file(const std::string& path);

}  // namespace strand
