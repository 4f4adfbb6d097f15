// strand generate CHECKPOINT --prompt TEXT: continues texts with a model.
#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "cli/commands.h"
#include "cli/model_arguments.h"
#include "cli/number_option.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "data/text_stream.h"
#include "data/utf8.h"
#include "infer/generate.h"

namespace strand::cli {

namespace {
constexpr uint64_t max_prompt_file_bytes = uint64_t{1} << 30;
constexpr int64_t max_context = int64_t{1} << 20;
constexpr int64_t max_tokens = int64_t{1} << 31;

struct Arguments {
  ModelArguments model;
  std::vector<std::string> prompts;
  std::string prompt_file;
  GenerationOptions generation;
  int64_t context = 0;
  int64_t batch_size = 8;
  bool ignore_eos = false;
  bool print_ids = false;
};

void print_now(const std::string& text) {
  write_output(text);
  flush_output();
}

/// The lines of a file, of a pipe, or of standard input ("-"), without a byte-order mark and without carriage returns.
std::vector<std::string> prompts_in(const std::string& path) {
  constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  std::string text = read_file(path == "-" ? "/dev/stdin" : path, max_prompt_file_bytes);
  if (text.starts_with(byte_order_mark)) text.erase(0, byte_order_mark.size());
  require(!text.empty(), "{} holds no prompt: one a line", path);
  const size_t bad = first_invalid_utf8(text);
  require(bad == text.size(), "{}: not UTF-8 in line {}; convert it first (iconv -t UTF-8)", path,
          1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n'));
  std::vector<std::string> prompts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    prompts.push_back(text.substr(begin, end - begin));
    if (!prompts.back().empty() && prompts.back().back() == '\r') prompts.back().pop_back();
    begin = end + 1;
  }
  return prompts;
}

/// The prompts of the command line, and then those of the file.
std::vector<std::string> all_prompts(const Arguments& a) {
  std::vector<std::string> prompts = a.prompts;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const size_t bad = first_invalid_utf8(prompts[i]);
    require(bad == prompts[i].size(), "--prompt number {} is not UTF-8 at byte {}", i + 1, bad);
  }
  if (!a.prompt_file.empty()) {
    for (std::string& prompt : prompts_in(a.prompt_file)) prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) throw UsageError("generate needs a --prompt or a --prompt-file");
  return prompts;
}

std::vector<std::vector<int32_t>> encode(const Tokenizer& tokenizer, const std::vector<std::string>& prompts) {
  std::vector<std::vector<int32_t>> all;
  for (const std::string& prompt : prompts) {
    std::vector<int32_t> ids;
    if (tokenizer.begins_with_bos()) ids.push_back(tokenizer.bos_id());
    tokenizer.encode(prompt, ids);
    all.push_back(std::move(ids));
  }
  return all;
}

void print_ids(const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) print_out("{}{}", i > 0 ? " " : "", ids[i]);
  print_out("\n");
}

void print_text(const Tokenizer& tokenizer, std::vector<int32_t> prompt, const std::vector<int32_t>& added,
                size_t index, size_t count) {
  prompt.insert(prompt.end(), added.begin(), added.end());
  print_out("{}=== {} of {} ===\n{}\n", index > 0 ? "\n" : "", index + 1, count, tokenizer.decode(prompt));
}

void report(const std::vector<Continuation>& texts, const GenerationSpeed& speed, int64_t context) {
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].ending == Ending::context_full)
      log_warning(
          fmt::format("text {} of {} ended after {} new tokens because its context of {} positions is full; "
                      "--context makes it longer",
                      i + 1, texts.size(), texts[i].ids.size(), context));
  }
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  log_info(fmt::format("prompts: {} tokens, {:.0f} tokens/s; decoding: {} tokens, {:.0f} tokens/s", speed.prompt_tokens,
                       rate(speed.prompt_tokens, speed.prefill_seconds), speed.new_tokens,
                       rate(speed.new_tokens, speed.decode_seconds)));
}

void run(const Arguments& a) {
  const std::vector<std::string> words = all_prompts(a);
  const auto sequences = std::min<int64_t>(a.batch_size, static_cast<int64_t>(words.size()));
  OpenModel model(a.model, {Purpose::generation, sequences, a.context});
  const Tokenizer& tokenizer = model.tokenizer();
  const std::vector<std::vector<int32_t>> prompts = encode(tokenizer, words);
  GenerationOptions options = a.generation;
  options.usable_ids = tokenizer.vocab_size();
  if (!a.ignore_eos) options.stop_id = tokenizer.eos_id();

  // A single text is shown while it grows. Several texts are shown when all are complete.
  const bool streaming = prompts.size() == 1 && !a.print_ids;
  TextStream stream(tokenizer, prompts[0]);
  const OnToken show = [&](size_t, int32_t id) { print_now(stream.add(id)); };
  GenerationSpeed speed;
  const std::vector<Continuation> texts =
      generate(model.session(), prompts, options, streaming ? show : OnToken{}, &speed);
  if (streaming) {
    print_now(stream.finish() + "\n");
  }
  for (size_t i = 0; i < texts.size() && !streaming; ++i) {
    if (a.print_ids) {
      print_ids(texts[i].ids);
    } else {
      print_text(tokenizer, prompts[i], texts[i].ids, i, texts.size());
    }
  }
  flush_output();
  report(texts, speed, model.session().shape().tokens);
}
}  // namespace

void add_generate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Continue texts with a trained model");
  command->footer("Example: strand generate runs/quickstart --prompt 'The meaning of the word' --temperature 0.7");
  const auto a = std::make_shared<Arguments>();
  SamplingOptions& sampling = a->generation.sampling;
  add_model_arguments(*command, a->model);
  command->add_option("--prompt", a->prompts, "Text to continue; may be repeated")->allow_extra_args(false);
  command->add_option("--prompt-file", a->prompt_file, "Texts to continue, one a line; - is standard input")
      ->type_name("FILE");
  add_number(*command, "--max-tokens", a->generation.max_tokens, int64_t{1}, max_tokens,
             "Tokens to add at most (default 128)");
  add_number(*command, "--temperature", sampling.temperature, 0.0, 100.0,
             "0 = always the most likely token (default 1)");
  add_number(*command, "--top-k", sampling.top_k, int64_t{0}, max_tokens,
             "Choose among the k most likely; 0 = all (default)");
  add_number(*command, "--top-p", sampling.top_p, 1e-6, 1.0,
             "Choose among the fewest that reach this probability (default 1)");
  add_number(*command, "--min-p", sampling.min_p, 0.0, 1.0,
             "Choose among those at least this share as likely as the most likely one; 0 = all (default)");
  add_number(*command, "--repetition-penalty", sampling.repetition_penalty, 1e-3, 1e3,
             "Make what was there before less likely by this factor of its logit; 1 = no (default)");
  add_number(*command, "--seed", sampling.seed, uint64_t{0}, std::numeric_limits<uint64_t>::max(),
             "Of the choices; text i draws with seed + i, from 0 (default 1)");
  add_number(*command, "--context", a->context, int64_t{1}, max_context,
             "Positions of prompt and new tokens together (default: the model's data.sequence_length)");
  add_number(*command, "--batch-size", a->batch_size, int64_t{1}, max_batch_size,
             "Texts that are continued together (default 8)");
  command->add_flag("--ignore-eos", a->ignore_eos, "Go on past the end of a text");
  command->add_flag("--print-ids", a->print_ids, "Print the ids of the new tokens, one line a text");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
