// strand generate CHECKPOINT --prompt TEXT, or --chat FILE: continues texts with a model, or answers.
#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "chat/carried_templates.h"
#include "chat/encoder.h"
#include "checkpoint/generation_config.h"
#include "cli/commands.h"
#include "cli/generate_prompts.h"
#include "cli/generated_texts.h"
#include "cli/model_arguments.h"
#include "cli/number_option.h"
#include "cli/template_option.h"
#include "core/error.h"
#include "core/log.h"
#include "core/number_text.h"
#include "data/utf8.h"

namespace strand::cli {

namespace {
constexpr int64_t max_context = int64_t{1} << 20;
constexpr int64_t max_tokens = int64_t{1} << 31;

struct Arguments {
  ModelArguments model;
  std::vector<std::string> prompts;
  std::string prompt_file;
  std::string chat_file;
  std::string chat_template;
  GenerationOptions generation;
  std::vector<int32_t> stop_ids;
  std::vector<std::string> stops;
  int64_t context = 0;
  int64_t batch_size = 8;
  bool ignore_eos = false;
  bool print_ids = false;
  bool log_probs = false;
  bool json = false;
};

/// Texts or conversations, and their ids when there is a tokenizer.
struct Inputs {
  std::vector<std::string> texts;
  std::vector<Conversation> conversations;
  size_t size() const { return texts.size() + conversations.size(); }
};

void check(const Arguments& a) {
  if (a.chat_file.empty() && a.prompts.empty() && a.prompt_file.empty())
    throw UsageError("generate needs a --prompt, a --prompt-file or a --chat");
  if (!a.chat_file.empty() && (!a.prompts.empty() || !a.prompt_file.empty()))
    throw UsageError("--chat stands alone, without --prompt and --prompt-file");
  if (a.chat_file.empty() && !a.chat_template.empty()) throw UsageError("--template belongs to --chat");
  if (a.print_ids + a.log_probs + a.json > 1)
    throw UsageError("only one of --print-ids, --log-probs and --json can be printed");
  for (const std::string& stop : a.stops) {
    if (stop.empty()) throw UsageError("--stop is empty");
    if (first_invalid_utf8(stop) != stop.size()) throw UsageError("--stop is not UTF-8");
  }
}

/// The prompts of the command line, and then those of the file; or the conversations.
Inputs read_inputs(const Arguments& a) {
  if (!a.chat_file.empty()) return {{}, read_chat(a.chat_file)};
  std::vector<std::string> prompts = a.prompts;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const size_t bad = first_invalid_utf8(prompts[i]);
    require(bad == prompts[i].size(), "--prompt number {} is not UTF-8 at byte {}", i + 1, bad);
  }
  if (!a.prompt_file.empty()) {
    for (std::string& prompt : read_prompts(a.prompt_file)) prompts.push_back(std::move(prompt));
  }
  return {std::move(prompts), {}};
}

/// What the program continues, and where texts end.
struct Task {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int32_t> stop_ids;
  std::vector<std::string> stops;
};

void add_id(std::vector<int32_t>& ids, int32_t id) {
  if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

/// The conversations with the template, and the end of an answer.
void add_conversations(const Arguments& a, const Inputs& inputs, const OpenModel& model, Task& task) {
  const Checkpoint& checkpoint = model.checkpoint();
  const ChatEncoder encoder(template_for_chat({a.chat_template, checkpoint.tokenizer(), checkpoint.path()}),
                            model.tokenizer());
  if (const std::string remark = encoder.remark(); !remark.empty()) log_warning(remark);
  for (const Conversation& conversation : inputs.conversations)
    task.prompts.push_back(encoder.encode(conversation, RenderedEnd::generation_prompt));
  if (a.ignore_eos) return;
  add_id(task.stop_ids, encoder.turn_end().id.value_or(-1));
  if (!encoder.turn_end().text.empty()) task.stops.push_back(encoder.turn_end().text);
}

Task task_of(const Arguments& a, const Inputs& inputs, const OpenModel& model) {
  Task task{{}, a.stop_ids, a.stops};
  const Tokenizer& tokenizer = model.tokenizer();
  for (const int32_t id : a.stop_ids)
    require(id < tokenizer.vocab_size(), "--stop-id {}: the tokenizer has the ids 0 to {}, and no other is drawn", id,
            tokenizer.vocab_size() - 1);
  if (!a.ignore_eos) {
    add_id(task.stop_ids, tokenizer.eos_id());
    const Checkpoint& checkpoint = model.checkpoint();
    for (const int32_t id : carried_eos_ids(checkpoint.tokenizer(), checkpoint.path(), model.config().model.vocab_size))
      add_id(task.stop_ids, id);
  }
  for (const std::string& text : inputs.texts) task.prompts.push_back(encode_prompt(tokenizer, text));
  if (!inputs.conversations.empty()) add_conversations(a, inputs, model, task);
  return task;
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
  log_info(fmt::format("prompts: {} tokens, {} tokens/s; decoding: {} tokens, {} tokens/s", speed.prompt_tokens,
                       fixed_text(rate(speed.prompt_tokens, speed.prefill_seconds), 0), speed.new_tokens,
                       fixed_text(rate(speed.new_tokens, speed.decode_seconds), 0)));
}

PrintedText printed(const Arguments& a) {
  PrintedText print;
  if (a.print_ids) print.form = TextForm::ids;
  if (a.json) print.form = TextForm::json;
  print.with_prompt = a.chat_file.empty();
  print.log_probs = a.log_probs;
  return print;
}

void run(const Arguments& a) {
  check(a);
  const Inputs inputs = read_inputs(a);
  const auto sequences = std::min<int64_t>(a.batch_size, static_cast<int64_t>(inputs.size()));
  OpenModel model(a.model, {Purpose::generation, sequences, a.context});
  const Task task = task_of(a, inputs, model);
  GenerationOptions options = a.generation;
  options.usable_ids = model.tokenizer().vocab_size();
  options.stop_ids = task.stop_ids;
  options.log_probs = a.log_probs || a.json;

  GeneratedTexts texts(model.tokenizer(), task.prompts, task.stops, printed(a));
  GenerationSpeed speed;
  const std::vector<Continuation> results = generate(
      model.session(), task.prompts, options, [&](size_t text, int32_t id) { return texts.append(text, id); }, &speed);
  texts.finish(results);
  report(results, speed, model.session().shape().tokens);
}

void add_input_options(CLI::App& command, Arguments& a) {
  command.add_option("--prompt", a.prompts, "Text to continue; may be repeated")->allow_extra_args(false);
  command.add_option("--prompt-file", a.prompt_file, "Texts to continue, one a line; - is standard input")
      ->type_name("FILE");
  command
      .add_option("--chat", a.chat_file,
                  "Conversations to answer, {\"messages\": [{\"role\": ..., \"content\": ...}, ...]} on each line; or "
                  "one, a message on each line; - is standard input")
      ->type_name("FILE");
  add_template_option(command, a.chat_template, "Chat template, by name or a .yaml file (default: that of the model)");
}

void add_ending_options(CLI::App& command, Arguments& a) {
  add_number(command, "--max-tokens", a.generation.max_tokens, int64_t{1}, max_tokens,
             "Tokens to add at most (default 128)");
  command
      .add_option("--stop", a.stops, "End a text before this one, whether or not a token ends there; may be repeated")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  const auto read_ids = [&a](const std::vector<std::string>& words) {
    for (const std::string& word : words)
      a.stop_ids.push_back(static_cast<int32_t>(parse_number("--stop-id", word, int64_t{0}, max_tokens - 1)));
  };
  command
      .add_option_function<std::vector<std::string>>("--stop-id", read_ids,
                                                     "End a text at the token of this id; may be repeated")
      ->type_name("INTEGER")
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", a.ignore_eos, "Go on past the end of a text, and of an answer");
}

void add_sampling_options(CLI::App& command, SamplingOptions& sampling) {
  add_number(command, "--temperature", sampling.temperature, 0.0, 100.0,
             "0 = always the most likely token (default 1)");
  add_number(command, "--top-k", sampling.top_k, int64_t{0}, max_tokens,
             "Choose among the k most likely; 0 = all (default)");
  add_number(command, "--top-p", sampling.top_p, 1e-6, 1.0,
             "Choose among the fewest that reach this probability (default 1)");
  add_number(command, "--min-p", sampling.min_p, 0.0, 1.0,
             "Choose among those at least this share as likely as the most likely one; 0 = all (default)");
  add_number(command, "--repetition-penalty", sampling.repetition_penalty, 1e-3, 1e3,
             "Make what was there before less likely by this factor of its logit; 1 = no (default)");
  add_number(command, "--seed", sampling.seed, uint64_t{0}, std::numeric_limits<uint64_t>::max(),
             "Of the choices; text i draws with seed + i, from 0 (default 1)");
}
}  // namespace

void add_generate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Continue texts with a trained model, or answer in conversations");
  command->footer("Example: strand generate runs/quickstart --prompt 'The meaning of the word' --temperature 0.7");
  const auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  add_input_options(*command, *a);
  add_ending_options(*command, *a);
  add_sampling_options(*command, a->generation.sampling);
  add_number(*command, "--context", a->context, int64_t{1}, max_context,
             "Positions of prompt and new tokens together (default: the model's data.sequence_length)");
  add_number(*command, "--batch-size", a->batch_size, int64_t{1}, max_batch_size,
             "Texts that are continued together (default 8)");
  command->add_flag("--print-ids", a->print_ids, "Print the ids of the new tokens, one line a text");
  command->add_flag("--log-probs", a->log_probs, "Print each new token with its log-probability after the text");
  command->add_flag("--json", a->json,
                    "Print a JSON object a text: the new text, why it ended, ids and log-probabilities of its tokens");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
