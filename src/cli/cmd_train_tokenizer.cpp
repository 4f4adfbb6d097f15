// strand train-tokenizer: text in, a SentencePiece model out.
#include <fmt/core.h>

#include <memory>
#include <string>

#include "cli/commands.h"
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
  if (summary.left_out > 0) text += fmt::format("; {} entries of directories not read", summary.left_out);
  return text;
}

void run(const TokenizerTraining& options) {
  uint64_t next_report = report_bytes;
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
  CLI::App* command = app.add_subcommand("train-tokenizer", "Train a SentencePiece tokenizer (LLaMA-2 kind) on text");
  const auto options = std::make_shared<TokenizerTraining>();
  add_text_arguments(*command, options->inputs, options->text);
  command->add_option("--out", options->output, "The .model to write")->required();
  command->add_option("--vocab-size", options->vocab_size, "Pieces, the 3 special and 256 byte ones included")
      ->capture_default_str();
  command
      ->add_option("--sample-bytes", options->sample_bytes,
                   "Train on about this many bytes, drawn line by line from all text (bounds time and memory)")
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of that draw")->capture_default_str();
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
