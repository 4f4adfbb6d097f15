#include "data/tokenize.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "core/clock.h"
#include "core/error.h"
#include "core/random.h"
#include "data/bounded_queue.h"
#include "data/byte_source.h"
#include "data/megatron_index.h"
#include "data/text_files.h"
#include "data/token_writer.h"

namespace strand {

namespace {
using Batch = std::vector<Document>;

enum class Side { train, val };

struct EncodedPart {
  std::vector<int32_t> ids;
  size_t text_bytes;
  Side side;  // of the whole document; its first part decides
  bool begins;
  bool ends;
};
struct EncodedBatch {
  std::vector<EncodedPart> parts;
  size_t text_bytes = 0;
};

// The work of a worker. It is a pure function of the document, so that the number of threads has no effect.
class Encoder {
 public:
  Encoder(const TokenizeOptions& options, const Tokenizer& tokenizer)
      : options_(options),
        tokenizer_(tokenizer),
        key_(hash_key(options.seed, "validation split")),
        blocks_(options.limits.encoded_at_once) {}

  EncodedBatch operator()(const Batch& batch) const {
    EncodedBatch encoded;
    encoded.parts.reserve(batch.size());
    for (const Document& part : batch) {
      encoded.parts.push_back(encode(part));
      encoded.text_bytes += part.text.size();
    }
    return encoded;
  }

 private:
  EncodedPart encode(const Document& part) const {
    EncodedPart encoded{{}, part.text.size(), side_of(part), part.begins, part.ends};
    if (part.begins && options_.add_bos) encoded.ids.push_back(tokenizer_.bos_id());
    const BytesTaken taken(blocks_, tokenizer_.longest_block(part.text));
    tokenizer_.encode(part.text, encoded.ids, part.begins ? TextPosition::start : TextPosition::continuation);
    if (part.ends && options_.add_eos) encoded.ids.push_back(tokenizer_.eos_id());
    return encoded;
  }

  Side side_of(const Document& part) const {
    if (options_.val_output.empty()) return Side::train;
    // The first max_part bytes are the same in whatever way the document is cut.
    const auto head = std::string_view(part.text).substr(0, options_.text.max_part);
    return random_uniform(key_, hash_key(options_.seed, head)) < options_.val_fraction ? Side::val : Side::train;
  }

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  uint64_t key_;
  mutable ByteBudget blocks_;  // bounds SentencePiece's working memory
};

// The threads and queues. Results come out in the order of the text, because `order_` holds the futures in that order.
// Its capacity bounds the work in flight.
class Pipeline {
 public:
  Pipeline(const TokenizeOptions& options, const Tokenizer& tokenizer, const std::vector<std::string>& paths)
      : encoder_(options, tokenizer),
        text_options_(options.text),
        tokenizer_(tokenizer),
        available_memory_(options.available_memory),
        paths_(paths),
        batch_bytes_(options.limits.batch),
        budget_(options.limits.in_flight),
        work_(in_flight(options)),
        order_(in_flight(options)) {
    text_options_.find_cut = [&tokenizer](std::string_view text, size_t from) {
      return tokenizer.find_cut(text, from);
    };
    try {
      for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { run_worker(); });
      threads_.emplace_back([this] { run_reader(); });
    } catch (...) {  // the system starts no more threads
      end_threads();
      throw;
    }
  }

  ~Pipeline() { end_threads(); }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// The next batch in text order, or nothing at the end. Rethrows what the reader or a worker threw.
  std::optional<EncodedBatch> next() {
    std::optional<std::future<EncodedBatch>> future = order_.pop();
    if (!future) return std::nullopt;
    EncodedBatch batch = future->get();
    budget_.give_back(batch.text_bytes);
    return batch;
  }

  // Both are valid after next() has returned nothing.
  int64_t empty_documents() const { return empty_documents_; }
  const TextCounts& text_counts() const { return text_counts_; }

 private:
  static size_t in_flight(const TokenizeOptions& options) { return 4 * static_cast<size_t>(options.threads); }

  void end_threads() {
    budget_.close();
    order_.close();
    work_.close();
    for (std::thread& thread : threads_) thread.join();
  }

  void run_worker() {
    while (std::optional<std::packaged_task<EncodedBatch()>> task = work_.pop()) (*task)();
  }

  void run_reader() {
    try {
      read_all();
    } catch (...) {
      std::promise<EncodedBatch> failure;
      failure.set_exception(std::current_exception());
      order_.push(failure.get_future());
    }
    order_.close();
    work_.close();
  }

  void read_all() {
    Batch batch;
    size_t bytes = 0;
    for (const std::string& path : paths_) {
      TextReader reader(path, text_options_, &text_counts_);
      Document document;
      while (reader.next(document)) {
        if (document.begins && document.ends && document.text.empty()) {
          ++empty_documents_;
          continue;
        }
        require_memory(path, document.text);
        bytes += document.text.size();
        batch.push_back(std::move(document));
        document = {};
        if (bytes >= batch_bytes_) {
          if (!submit(std::move(batch), bytes)) return;
          batch = {};
          bytes = 0;
        }
      }
    }
    if (!batch.empty()) submit(std::move(batch), bytes);
  }

  void require_memory(const std::string& path, const std::string& text) const {
    const uint64_t needed = tokenizer_.longest_block(text) * Tokenizer::memory_for_each_byte;
    require(
        needed <= available_memory_,
        "{}: the tokenizer allows no cut within {} bytes of a document, and to encode that much at once takes about "
        "{:.1f} GiB of memory, of which {:.1f} GiB are available; --split-documents makes several documents of a .txt",
        path, tokenizer_.longest_block(text), static_cast<double>(needed) / (1 << 30),
        static_cast<double>(available_memory_) / (1 << 30));
  }

  bool submit(Batch batch, size_t bytes) {
    if (!budget_.take(bytes)) return false;
    std::packaged_task<EncodedBatch()> task(
        [this, documents = std::make_shared<const Batch>(std::move(batch))] { return encoder_(*documents); });
    return order_.push(task.get_future()) && work_.push(std::move(task));
  }

  const Encoder encoder_;
  TextOptions text_options_;
  const Tokenizer& tokenizer_;
  const uint64_t available_memory_;
  const std::vector<std::string>& paths_;
  const size_t batch_bytes_;
  ByteBudget budget_;
  BoundedQueue<std::packaged_task<EncodedBatch()>> work_;
  BoundedQueue<std::future<EncodedBatch>> order_;
  int64_t empty_documents_ = 0;  // the reader writes this and the next; they may be read once order_ is closed
  TextCounts text_counts_;
  std::vector<std::thread> threads_;
};

void check(const TokenizeOptions& options, const Tokenizer& tokenizer) {
  require(options.threads > 0, "tokenizing needs at least one thread");
  require(!options.output.empty(), "tokenizing needs the prefix of an output");
  const bool split = !options.val_output.empty();
  require(split ? options.val_fraction > 0 && options.val_fraction < 1 : options.val_fraction == 0,
          "a validation output and a validation fraction inside (0, 1) belong together; the fraction is {} and the "
          "output '{}'",
          options.val_fraction, options.val_output);
  const auto absolute = [](const std::string& path) {
    return std::filesystem::absolute(megatron::prefix_of(path)).lexically_normal();
  };
  require(!split || absolute(options.output) != absolute(options.val_output), "train and validation output are both {}",
          options.output);
  require(!options.add_bos || tokenizer.bos_id() >= 0, "{} has no BOS: ask for no BOS", tokenizer.name());
  require(!options.add_eos || tokenizer.eos_id() >= 0,
          "{} has no EOS: ask for no EOS (--no-eos); that of a {} is the eos_token in a {} beside it", tokenizer.name(),
          tokenizer_json_file, tokenizer_config_file);
}

void write_part(const EncodedPart& part, TokenWriter& writer, TokenizeSide& side) {
  writer.append(part.ids);
  if (part.ends) writer.end_document();
  side.tokens = writer.tokens();
  side.documents = writer.documents();
  side.bytes += part.text_bytes;
}

// Throws Error when the token that separates documents occurs nowhere, because it was most likely misspelt.
void require_separators(const TokenizeOptions& options, const std::vector<std::string>& paths,
                        const TokenizeSummary& summary) {
  const bool split = options.text.splitting.kind == Splitting::Kind::token;
  const auto is_txt = [](const std::string& path) { return without_compression_suffix(path).ends_with(".txt"); };
  if (!split || summary.text.separators > 0 || std::none_of(paths.begin(), paths.end(), is_txt)) return;
  fail("--split-documents: the token '{}' is in no .txt (none, blank-lines and lines have a meaning of their own)",
       options.text.splitting.token);
}

void require_both_sides(const TokenizeOptions& options, int64_t train, int64_t val) {
  require(
      train + val > 1 || options.text.splitting.kind != Splitting::Kind::none,
      "the text is one document, which cannot be both for training and for validation; --split-documents blank-lines, "
      "lines or a token such as '<|endoftext|>' makes several documents of a .txt");
  require(train > 0, "no document is left for training: use a smaller validation fraction than {}",
          options.val_fraction);
  require(val > 0,
          "none of {} documents fell into the validation part: use a larger fraction than {}, or more documents "
          "(--split-documents makes several documents of a .txt)",
          train, options.val_fraction);
}

}  // namespace

TokenizeSummary tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                         const std::function<void(const TokenizeSummary&)>& progress) {
  const double start = now();
  check(options, tokenizer);
  const TextFiles files = list_text_files(options.inputs);
  warn_of_left_out(files);

  TokenizeSummary summary;
  summary.left_out = static_cast<int64_t>(files.left_out.size());
  TokenWriter train(options.output, tokenizer);
  std::optional<TokenWriter> val;
  if (!options.val_output.empty()) val.emplace(options.val_output, tokenizer);
  {
    Pipeline pipeline(options, tokenizer, files.paths);
    Side side = Side::train;
    while (const std::optional<EncodedBatch> batch = pipeline.next()) {
      for (const EncodedPart& part : batch->parts) {
        if (part.begins) side = part.side;
        if (side == Side::val) {
          write_part(part, *val, summary.val);
        } else {
          write_part(part, train, summary.train);
        }
      }
      summary.seconds = now() - start;
      if (progress) progress(summary);
    }
    summary.empty_documents = pipeline.empty_documents();
    summary.text = pipeline.text_counts();
  }
  require_separators(options, files.paths, summary);
  require(train.documents() + (val ? val->documents() : 0) > 0,
          "the corpus is empty: {} files hold no text ({} empty documents)", files.paths.size(),
          summary.empty_documents);
  if (val) require_both_sides(options, train.documents(), val->documents());
  train.seal();
  if (val) {
    val->seal();
    val->publish();
  }
  train.publish();
  summary.seconds = now() - start;
  return summary;
}

namespace {
std::string to_string(const TokenizeSide& side) {
  return fmt::format("{} documents, {} tokens, {} bytes, {:.4f} tokens per byte", side.documents, side.tokens,
                     side.bytes,
                     static_cast<double>(side.tokens) / static_cast<double>(std::max<uint64_t>(side.bytes, 1)));
}
}  // namespace

std::string to_string(const TokenizeSummary& summary) {
  std::string text = to_string(summary.train);
  if (summary.val.documents > 0) text += fmt::format("; validation: {}", to_string(summary.val));
  if (summary.empty_documents > 0) text += fmt::format("; {} empty documents skipped", summary.empty_documents);
  text += to_string(summary.text);
  if (summary.left_out > 0) text += fmt::format("; {} files or other entries not read", summary.left_out);
  const double bytes = static_cast<double>(summary.train.bytes + summary.val.bytes);
  return text + fmt::format("; {:.1f} s ({:.2f} MB/s)", summary.seconds, bytes / 1e6 / std::max(summary.seconds, 1e-9));
}

}  // namespace strand
