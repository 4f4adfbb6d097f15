#include "data/tokenize.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "data/bounded_queue.h"
#include "data/token_writer.h"

namespace strand {

namespace {
constexpr size_t batch_bytes = size_t{1} << 18;  // enough work to hide the hand-over, small enough to share out

using Batch = std::vector<Document>;

enum class Side { train, val };

struct EncodedPart {
  std::vector<int32_t> ids;
  size_t text_bytes;
  Side side;  // of the document, decided by the part that begins it
  bool begins;
  bool ends;
};
using EncodedBatch = std::vector<EncodedPart>;

// What a worker does: pure, so that threads and their number cannot matter.
class Encoder {
 public:
  Encoder(const TokenizeOptions& options, const Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer), key_(hash_key(options.seed, "validation split")) {}

  EncodedBatch operator()(const Batch& batch) const {
    EncodedBatch encoded;
    encoded.reserve(batch.size());
    for (const Document& part : batch) encoded.push_back(encode(part));
    return encoded;
  }

 private:
  EncodedPart encode(const Document& part) const {
    EncodedPart encoded{{}, part.text.size(), side_of(part), part.begins, part.ends};
    if (part.begins && options_.add_bos) encoded.ids.push_back(tokenizer_.bos_id());
    tokenizer_.encode(part.text, encoded.ids, part.begins ? TextPosition::start : TextPosition::continuation);
    if (part.ends && options_.add_eos) encoded.ids.push_back(tokenizer_.eos_id());
    return encoded;
  }

  Side side_of(const Document& part) const {
    if (options_.val_output.empty()) return Side::train;
    return random_uniform(key_, hash_key(options_.seed, part.text)) < options_.val_fraction ? Side::val : Side::train;
  }

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  uint64_t key_;
};

// The threads and queues. Results come out in the order of the text because `order_` holds the futures in that order;
// its capacity bounds what is in flight.
class Pipeline {
 public:
  Pipeline(const TokenizeOptions& options, const Tokenizer& tokenizer, const std::vector<std::string>& paths)
      : encoder_(options, tokenizer),
        limits_(options.limits),
        paths_(paths),
        work_(in_flight(options)),
        order_(in_flight(options)) {
    for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { run_worker(); });
    threads_.emplace_back([this] { run_reader(); });
  }

  ~Pipeline() {
    order_.close();
    work_.close();
    for (std::thread& thread : threads_) thread.join();
  }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  /// The next batch in text order, or nothing at the end. Rethrows what the reader or a worker threw.
  std::optional<EncodedBatch> next() {
    std::optional<std::future<EncodedBatch>> future = order_.pop();
    if (!future) return std::nullopt;
    return future->get();
  }

  int64_t empty_documents() const { return empty_documents_; }  ///< valid after next() gave nothing

 private:
  static size_t in_flight(const TokenizeOptions& options) { return 4 * static_cast<size_t>(options.threads); }

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
      TextReader reader(path, limits_);
      Document document;
      while (reader.next(document)) {
        if (document.text.empty()) {
          ++empty_documents_;
          continue;
        }
        bytes += document.text.size();
        batch.push_back(std::move(document));
        document = {};
        if (bytes >= batch_bytes) {
          if (!submit(std::move(batch))) return;
          batch = {};
          bytes = 0;
        }
      }
    }
    if (!batch.empty()) submit(std::move(batch));
  }

  bool submit(Batch batch) {
    std::packaged_task<EncodedBatch()> task(
        [this, documents = std::make_shared<const Batch>(std::move(batch))] { return encoder_(*documents); });
    return order_.push(task.get_future()) && work_.push(std::move(task));
  }

  const Encoder encoder_;
  const TextLimits limits_;
  const std::vector<std::string>& paths_;
  BoundedQueue<std::packaged_task<EncodedBatch()>> work_;
  BoundedQueue<std::future<EncodedBatch>> order_;
  int64_t empty_documents_ = 0;  // the reader's; closing order_ publishes it
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
  const auto absolute = [](const std::string& path) { return std::filesystem::absolute(path).lexically_normal(); };
  require(!split || absolute(options.output) != absolute(options.val_output), "train and validation output are both {}",
          options.output);
  require(!options.add_bos || tokenizer.bos_id() >= 0, "{} has no BOS piece: ask for no BOS", tokenizer.name());
  require(!options.add_eos || tokenizer.eos_id() >= 0, "{} has no EOS piece: ask for no EOS", tokenizer.name());
}

void write_part(const EncodedPart& part, TokenWriter& writer, TokenizeSide& side) {
  writer.append(part.ids);
  if (part.ends) writer.end_document();
  side.tokens = writer.tokens();
  side.documents = writer.documents();
  side.bytes += part.text_bytes;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace

TokenizeSummary tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                         const std::function<void(const TokenizeSummary&)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  check(options, tokenizer);
  const TextFiles files = list_text_files(options.inputs);
  for (const std::string& path : files.ignored)
    log_warning(fmt::format("{} is no text file by its name: ignored", path));

  TokenizeSummary summary;
  TokenWriter train(options.output, tokenizer.vocab_size());
  std::optional<TokenWriter> val;
  if (!options.val_output.empty()) val.emplace(options.val_output, tokenizer.vocab_size());
  {
    Pipeline pipeline(options, tokenizer, files.paths);
    Side side = Side::train;
    while (const std::optional<EncodedBatch> batch = pipeline.next()) {
      for (const EncodedPart& part : *batch) {
        if (part.begins) side = part.side;
        if (side == Side::val) {
          write_part(part, *val, summary.val);
        } else {
          write_part(part, train, summary.train);
        }
      }
      summary.seconds = seconds_since(start);
      if (progress) progress(summary);
    }
    summary.empty_documents = pipeline.empty_documents();
  }
  require(train.documents() + (val ? val->documents() : 0) > 0,
          "the corpus is empty: {} files hold no text ({} empty documents)", files.paths.size(),
          summary.empty_documents);
  require(train.documents() > 0, "no document is left for training: use a smaller validation fraction than {}",
          options.val_fraction);
  require(!val || val->documents() > 0,
          "no document fell into the validation part: use a larger fraction than {}, or more text",
          options.val_fraction);
  train.seal();
  if (val) {
    val->seal();
    val->publish();
  }
  train.publish();
  summary.seconds = seconds_since(start);
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
  const double bytes = static_cast<double>(summary.train.bytes + summary.val.bytes);
  return text + fmt::format("; {:.1f} s ({:.2f} MB/s)", summary.seconds, bytes / 1e6 / std::max(summary.seconds, 1e-9));
}

}  // namespace strand
