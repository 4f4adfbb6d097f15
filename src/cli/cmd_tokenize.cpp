// strand tokenize: turns text into Megatron token files.
#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/text_arguments.h"
#include "core/available_memory.h"
#include "core/cores.h"
#include "core/error.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "data/tokenize.h"

namespace strand::cli {
namespace {

constexpr double report_seconds = 5.0;

struct Options {
  TokenizeOptions tokenize;
  std::string tokenizer;
  bool no_bos = false;
  bool no_eos = false;
};

void run(const Options& options) {
  TokenizeOptions task = options.tokenize;
  task.add_eos = !options.no_eos;
  task.threads = threads_for(task.threads);
  if (task.val_output.empty() != (task.val_fraction == 0)) {
    throw UsageError("strand tokenize: --val-out and a --val-fraction above 0 belong together");
  }
  if (std::filesystem::exists("/proc/meminfo")) task.available_memory = available_memory().bytes;
  const PlaceLock lock = lock_output(task.output, "tokenize");
  std::optional<PlaceLock> val_lock;
  if (!task.val_output.empty()) val_lock.emplace(lock_output(task.val_output, "tokenize"));
  const std::unique_ptr<const Tokenizer> tokenizer = Tokenizer::load(options.tokenizer);
  task.add_bos = !options.no_bos && tokenizer->begins_with_bos();
  double next_report = report_seconds;
  const TokenizeSummary summary = tokenize(task, *tokenizer, [&](const TokenizeSummary& so_far) {
    if (so_far.seconds < next_report) return;
    log_info(to_string(so_far));
    next_report = so_far.seconds + report_seconds;
  });
  print_out("{}: {}\n", task.output, to_string(summary));
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into token files (Megatron .bin/.idx)");
  command->footer(
      "Example: strand tokenize data/text/anarchism --tokenizer data/quickstart/tokenizer.model --out data/mine");
  const auto options = std::make_shared<Options>();
  TokenizeOptions& task = options->tokenize;
  task.threads = 0;
  add_text_arguments(*command, task.inputs, task.text);
  command
      ->add_option("--tokenizer", options->tokenizer, "SentencePiece .model, or the tokenizer.json of byte-level BPE")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--out", task.output,
                   "Prefix of the .bin/.idx pair to write, and of a .tokenized that names the tokenizer")
      ->type_name("PREFIX")
      ->required();
  command
      ->add_option_function<std::string>(
          "--split-documents",
          [options](const std::string& text) { options->tokenize.text.splitting = Splitting::parse(text); },
          "Make several documents of a .txt: at blank lines, at each line, or at a TOKEN that stands between them, "
          "such "
          "as '<|endoftext|>' (default none)")
      ->type_name("none|blank-lines|lines|TOKEN");
  command->add_option("--val-out", task.val_output, "Prefix of a second pair, for validation")->type_name("PREFIX");
  add_number(*command, "--val-fraction", task.val_fraction, 0.0, 1.0,
             "Part of the documents that go to --val-out, in (0, 1)");
  add_number(*command, "--seed", task.seed, uint64_t{0}, std::numeric_limits<uint64_t>::max(),
             "Seed of the choice of validation documents (default 1)");
  add_threads(*command, task.threads);
  command->add_flag("--no-bos", options->no_bos, "Do not begin documents with BOS (some tokenizers never do)");
  command->add_flag("--no-eos", options->no_eos, "Do not end documents with EOS");
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
