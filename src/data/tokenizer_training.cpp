#include "data/tokenizer_training.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <queue>
#include <string_view>
#include <unordered_map>

#include "core/clock.h"
#include "core/error.h"
#include "core/random.h"
#include "data/bpe/bpe_training.h"
#include "data/output_file.h"
#include "data/sentencepiece_reason.h"
#include "data/text_files.h"
#include "data/tokenizer.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr size_t max_sentence_bytes = 4192;  // SentencePiece's own limit; longer lines are cut, not skipped

// A uniform sample of lines, of bounded size, in one pass over the text. Line i has the random rank f(seed, i), and the
// lines of lowest rank are kept ("bottom-k" sampling). The sample depends on the text, the seed and the limit only.
class LineSample {
 public:
  LineSample(uint64_t seed, uint64_t max_bytes) : key_(hash_key(seed, "tokenizer training")), max_bytes_(max_bytes) {}

  void add(std::string_view line) {
    const uint64_t index = lines_++;
    const uint64_t rank = random_bits(key_, index);
    if (!kept_.empty() && bytes_ + line.size() > max_bytes_ && rank >= kept_.top().rank) {
      every_line_ = false;
      return;
    }
    kept_.push({rank, index, std::string(line)});
    bytes_ += line.size();
    while (bytes_ > max_bytes_ && kept_.size() > 1) {
      bytes_ -= kept_.top().text.size();
      kept_.pop();
      every_line_ = false;
    }
  }

  bool every_line() const { return every_line_; }
  uint64_t bytes() const { return bytes_; }

  /// Returns the lines in the order of the text, and empties the sample.
  std::vector<std::string> take() {
    std::vector<Line> lines;
    lines.reserve(kept_.size());
    while (!kept_.empty()) {
      lines.push_back(kept_.top());
      kept_.pop();
    }
    std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) { return a.index < b.index; });
    std::vector<std::string> texts;
    texts.reserve(lines.size());
    for (Line& line : lines) texts.push_back(std::move(line.text));
    return texts;
  }

 private:
  struct Line {
    uint64_t rank;
    uint64_t index;
    std::string text;
    bool operator<(const Line& other) const { return rank < other.rank; }
  };

  uint64_t key_;
  uint64_t max_bytes_;
  uint64_t lines_ = 0;
  uint64_t bytes_ = 0;
  bool every_line_ = true;
  std::priority_queue<Line> kept_;  // highest rank on top
};

// Cuts a line that is too long at a space, else before a character.
void add_line(std::string_view line, LineSample& sample) {
  while (line.size() > max_sentence_bytes) {
    size_t cut = line.rfind(' ', max_sentence_bytes);
    if (cut == std::string_view::npos || cut == 0) {
      cut = max_sentence_bytes;
      while ((static_cast<unsigned char>(line[cut]) & 0xC0) == 0x80) --cut;
    }
    sample.add(line.substr(0, cut));
    line.remove_prefix(cut);
  }
  if (!line.empty()) sample.add(line);
}

// Lines without what ends them.
void add_lines(std::string_view text, LineSample& sample) {
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, length);
    if (line.ends_with('\r')) line.remove_suffix(1);
    add_line(line, sample);
    text.remove_prefix(std::min(length + 1, text.size()));
  }
}

// Lines with all newlines after them, because tokens may begin or consist of them.
void add_lines_with_ends(std::string_view text, LineSample& sample) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t next = std::min(text.find_first_not_of("\r\n", end), text.size());
    add_line(text.substr(0, next), sample);
    text.remove_prefix(next);
  }
}

// The trainer sees single lines, so a long text is cut before a newline where it has one, else at a space, else before
// any character.
size_t find_line_cut(std::string_view text, size_t from) {
  if (from >= text.size()) return std::string_view::npos;
  size_t cut = text.find('\n', from);
  if (cut == std::string_view::npos) cut = text.find(' ', from);
  if (cut != std::string_view::npos) return cut;
  for (cut = from; cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80;) ++cut;
  return cut < text.size() ? cut : std::string_view::npos;
}

class LineIterator : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  size_t at_ = 0;
};

std::unordered_map<std::string, std::string> sentencepiece_options(const TokenizerTraining& options) {
  return {{"model_type", "bpe"},
          {"vocab_size", std::to_string(options.vocab_size)},
          {"byte_fallback", "true"},
          {"split_digits", "true"},
          {"character_coverage", "0.99995"},
          {"allow_whitespace_only_pieces", "true"},
          {"normalization_rule_name", "identity"},
          {"add_dummy_prefix", "true"},
          {"remove_extra_whitespaces", "false"},
          {"unk_id", "0"},
          {"bos_id", "1"},
          {"eos_id", "2"},
          {"pad_id", "-1"},
          {"input_sentence_size", "0"},  // SentencePiece takes no sample of its own
          {"max_sentence_length", std::to_string(max_sentence_bytes)},
          {"num_threads", "2"},   // fixed, as it is written into the model
          {"minloglevel", "2"}};  // print errors only; they are thrown as exceptions too
}

NamedFiles train_sentencepiece(const std::vector<std::string>& lines, const TokenizerTraining& options) {
  LineIterator iterator(lines);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(sentencepiece_options(options), &iterator, &model);
  if (!status.ok()) fail("{}", sentencepiece_training_reason(status.ToString()));
  return {{sentencepiece_file, model}};
}

NamedFiles train_bpe_bytes(const std::vector<std::string>& lines, const TokenizerTraining& options) {
  const int64_t wanted = options.vocab_size - fixed_bpe_tokens;
  const auto merges = find_merges(lines, wanted);
  const auto found = static_cast<int64_t>(merges.size());
  require(found == wanted, "only {} pieces are found more than once; use a vocabulary of at most that, or more text",
          found + fixed_bpe_tokens);
  return bpe_files(merges);
}

/// What a type of tokenizer needs for its training.
struct Trainer {
  int64_t fixed_pieces;  ///< special ones and bytes
  const char* file;      ///< the name that the file must have; null = any
  void (*add_lines)(std::string_view text, LineSample& sample);
  NamedFiles (*train)(const std::vector<std::string>& lines, const TokenizerTraining& options);
};

Trainer trainer_of(TokenizerType type) {
  if (type == TokenizerType::bpe_bytes)
    return {fixed_bpe_tokens, tokenizer_json_file, add_lines_with_ends, train_bpe_bytes};
  return {3 + 256, nullptr, add_lines, train_sentencepiece};  // unk, bos, eos and one piece a byte
}

std::string beside(const std::string& path, const char* name) {
  return (fs::path(path).parent_path() / name).string();
}

void check(const TokenizerTraining& options, const Trainer& trainer) {
  require(options.vocab_size > trainer.fixed_pieces && options.vocab_size < (int64_t{1} << 24),
          "a vocabulary of {} pieces: at least {} are needed ({} are special or bytes)", options.vocab_size,
          trainer.fixed_pieces + 1, trainer.fixed_pieces);
  require(!options.output.empty() && !options.output.ends_with('/'),
          "the tokenizer needs the name of a file, such as {}{}", options.output,
          trainer.file != nullptr ? trainer.file : sentencepiece_file);
  const std::string name = fs::path(options.output).filename().string();
  require(trainer.file == nullptr || name == trainer.file,
          "{}: a tokenizer of this type is read with the file {} beside it, so its own name must be {}", options.output,
          tokenizer_config_file, trainer.file);
  require(options.sample_bytes > 0, "tokenizer training needs a sample of more than 0 bytes");
}
}  // namespace

TokenizerTrainingSummary train_tokenizer(const TokenizerTraining& options,
                                         const std::function<void(uint64_t bytes)>& progress) {
  const double start = now();
  const Trainer trainer = trainer_of(options.type);
  check(options, trainer);

  TokenizerTrainingSummary summary;
  // The files are opened first, so that a place that cannot be written is known before the work.
  OutputFile output(options.output);
  std::optional<OutputFile> config;
  if (trainer.file != nullptr) config.emplace(beside(options.output, tokenizer_config_file));
  LineSample sample(options.seed, options.sample_bytes);
  const TextFiles files = list_text_files(options.inputs);
  warn_of_left_out(files);
  summary.left_out = static_cast<int64_t>(files.left_out.size());
  TextOptions text_options = options.text;
  text_options.find_cut = find_line_cut;
  for (const std::string& path : files.paths) {
    TextReader reader(path, text_options, &summary.text);
    Document document;
    while (reader.next(document)) {
      trainer.add_lines(document.text, sample);
      summary.documents += document.ends ? 1 : 0;
      summary.bytes += document.text.size();
      if (progress) progress(summary.bytes);
    }
  }
  summary.sampled_bytes = sample.bytes();
  summary.every_line = sample.every_line();
  require(summary.sampled_bytes > 0, "there is no text in the {} files given: nothing to train a tokenizer on",
          files.paths.size());

  const std::vector<std::string> lines = sample.take();
  NamedFiles made;
  try {
    made = trainer.train(lines, options);
  } catch (const Error& e) {
    fail("cannot train a tokenizer of {} pieces on {} bytes of text: {}", options.vocab_size, summary.sampled_bytes,
         e.what());
  }
  summary.vocab_size = Tokenizer::from_files(made, options.output)->vocab_size();
  if (config) {
    config->write(made.at(tokenizer_config_file));
    config->seal();
  }
  output.write(made.at(trainer.file != nullptr ? trainer.file : sentencepiece_file));
  output.seal();
  if (config) config->publish();
  output.publish();
  summary.seconds = now() - start;
  return summary;
}

}  // namespace strand
