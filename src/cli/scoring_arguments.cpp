#include "cli/scoring_arguments.h"

#include <fmt/core.h>
#include <unistd.h>

#include "cli/choice_option.h"
#include "cli/errors.h"
#include "cli/number_option.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "core/terminal.h"
#include "train/console.h"

namespace strand::cli {

namespace {
constexpr int64_t max_context = int64_t{1} << 20;
constexpr int64_t max_batch_tokens = int64_t{1} << 24;
/// Processes wait for the slowest of them at the end only, however long that takes.
constexpr double watchdog_seconds = 30.0 * 24 * 3600;

/// How far scoring is: a line that is rewritten on a terminal, and elsewhere a line every minute.
class ProgressLine {
 public:
  ProgressLine() : terminal_(rewrites_lines(STDERR_FILENO)) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const ScoringProgress& progress) {
    const double time = now(), since_start = time - start_;
    if (time - shown_ < (terminal_ ? 0.2 : 60.0)) return;
    shown_ = time;
    const double left =
        since_start / static_cast<double>(progress.tokens) * static_cast<double>(progress.all_tokens - progress.tokens);
    const std::string line =
        fmt::format("scored {} of {} requests | {} tok/s | {} left", progress.requests, progress.all_requests,
                    fixed_text(static_cast<double>(progress.tokens) / since_start, 0), format_duration(left));
    if (!terminal_) return log_info(line);
    write_error("\r\x1b[2K" + fit_columns(line, terminal_columns(STDERR_FILENO)));
    written_ = true;
  }

 private:
  void clear() {
    if (written_) write_error("\r\x1b[2K");
  }

  const bool terminal_;
  const double start_ = now();
  double shown_ = start_;
  bool written_ = false;
};

/// "auto" is what the tokenizer itself does, and what an export of the model says in tokenizer_config.json.
BeginText begin_text(const std::string& bos, const Tokenizer& tokenizer) {
  if (bos == "on") return BeginText::with_bos;
  if (bos == "off") return BeginText::plain;
  return tokenizer.begins_with_bos() ? BeginText::with_bos : BeginText::plain;
}
}  // namespace

std::vector<CLI::Option*> add_scoring_arguments(CLI::App& command, ScoringArguments& a) {
  return {add_choice(command, "--bos", a.bos, {"auto", "on", "off"},
                     "Whether scored texts begin with BOS (default auto: where the tokenizer has it)"),
          add_number(command, "--context", a.context, int64_t{1}, max_context,
                     "Tokens of a scored text that the model reads at most; longer contexts lose their beginning "
                     "(default: the model's data.sequence_length)"),
          add_number(command, "--batch-tokens", a.batch_tokens, int64_t{1}, max_batch_tokens,
                     "Tokens of a pass when texts are scored, and positions of the cache (default 4096; at least those "
                     "of the longest text)")};
}

ScoringModel::ScoringModel(const ModelArguments& model, const ScoringArguments& a, Processes& processes)
    : processes_(processes),
      grid_(processes.grid(1, watchdog_seconds)),
      model_(model, processes),
      begin_(begin_text(a.bos, model_.tokenizer())),
      max_length_(a.context > 0 ? a.context : model_.config().data.sequence_length),
      encoder_(model_.tokenizer(), begin_, max_length_),
      scorer_(encoder_, [this](const SessionShape& shape) -> Session& { return model_.open(shape); }, grid_->control(),
              {.pass_tokens = a.batch_tokens}),
      forwarding_(*this) {}

std::vector<TokenScore> ScoringModel::score(std::span<const TextRequest> requests) {
  std::vector<TokenScore> scores;
  const int64_t before = scorer_.cut();
  {
    ProgressLine line;
    if (speaks()) scorer_.tell([&line](const ScoringProgress& progress) { line.show(progress); });
    run_together(processes_, [&] { scores = scorer_.score(requests); });
    scorer_.tell({});
  }
  if (const int64_t cut = scorer_.cut() - before; speaks() && cut > 0)
    log_warning(fmt::format("{} of {} texts have more than {} tokens: their contexts were cut at the beginning", cut,
                            requests.size(), max_length_));
  return scores;
}

}  // namespace strand::cli
