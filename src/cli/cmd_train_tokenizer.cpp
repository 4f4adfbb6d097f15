// strand train-tokenizer: trains a tokenizer on text.
#include <fmt/core.h>

#include <limits>
#include <memory>
#include <string>

#include "cli/choice_option.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/text_arguments.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "data/tokenizer_training.h"

namespace strand::cli {
namespace {

constexpr uint64_t report_bytes = uint64_t{100} << 20;  // a line of progress for every 100 MiB read

std::string how_sampled(const TokenizerTrainingSummary& summary, const TokenizerTraining& options) {
  return summary.every_line ? std::string("every line")
                            : fmt::format("lines drawn from all of it, seed {}", options.seed);
}

std::string left_out(const TokenizerTrainingSummary& summary) {
  std::string text = to_string(summary.text);
  if (summary.left_out > 0) text += fmt::format("; {} files or other entries not read", summary.left_out);
  return text;
}

void run(const TokenizerTraining& options) {
  uint64_t next_report = report_bytes;
  const PlaceLock lock = lock_output(options.output, "train-tokenizer");
  const TokenizerTrainingSummary summary = train_tokenizer(options, [&](uint64_t bytes) {
    if (bytes < next_report) return;
    log_info(fmt::format("{} MB of text read", bytes / 1000000));
    next_report = bytes + report_bytes;
  });
  print_out("{}: {} pieces, trained on {} of {} bytes ({}) from {} documents in {:.1f} s{}\n", options.output,
            summary.vocab_size, summary.sampled_bytes, summary.bytes, how_sampled(summary, options), summary.documents,
            summary.seconds, left_out(summary));
}

}  // namespace

void add_train_tokenizer_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("train-tokenizer", "Train a tokenizer on text: a SentencePiece model or byte-level BPE");
  command->footer("Example: strand train-tokenizer data/text/anarchism --vocab-size 2000 --out data/mine.model");
  const auto options = std::make_shared<TokenizerTraining>();
  add_text_arguments(*command, options->inputs, options->text);
  command->add_option("--out", options->output, "The .model to write, or the tokenizer.json for bpe-bytes")
      ->type_name("FILE")
      ->required();
  add_choice(*command, "--type", options->type,
             {{"sentencepiece", TokenizerType::sentencepiece}, {"bpe-bytes", TokenizerType::bpe_bytes}},
             "A SentencePiece model of LLaMA-2's kind (default), or byte-level BPE for AutoTokenizer");
  const auto shown = [](auto value) { return fmt::format(" (default {})", value); };
  add_number(*command, "--vocab-size", options->vocab_size, int64_t{1}, (int64_t{1} << 24) - 1,
             "Pieces, the special ones and the 256 bytes included" + shown(options->vocab_size));
  add_number(*command, "--sample-bytes", options->sample_bytes, uint64_t{1}, uint64_t{1} << 60,
             "Train on about this many bytes, drawn line by line from all text (bounds time and memory)" +
                 shown(options->sample_bytes));
  add_number(*command, "--seed", options->seed, uint64_t{0}, std::numeric_limits<uint64_t>::max(),
             "Seed of that draw" + shown(options->seed));
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
