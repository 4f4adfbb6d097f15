// strand generate CHECKPOINT --prompt TEXT: a model's own words.
#include <fmt/core.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/model_arguments.h"
#include "infer/generate.h"

namespace strand::cli {

namespace {
struct Arguments {
  ModelArguments model;
  std::string prompt;
  SamplingOptions sampling;
  bool ignore_eos = false;
  bool print_ids = false;
};

/// Prints what `ids` have grown to since the last call; a character's bytes may come from several tokens.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer, std::vector<int32_t> prompt)
      : tokenizer_(tokenizer), ids_(std::move(prompt)) {}

  void show(int32_t id) {
    ids_.push_back(id);
    print(
        /*hold_back=*/4);  // an unfinished UTF-8 character has at most 3 bytes, and decodes to U+FFFD until it is whole
  }
  void finish() { print(0); }

 private:
  void print(size_t hold_back) {
    const std::string text = tokenizer_.decode(ids_);
    const size_t end = text.size() > hold_back ? text.size() - hold_back : 0;
    size_t cut = std::max(end, shown_);
    while (cut < text.size() && cut > shown_ && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
    std::fwrite(text.data() + shown_, 1, cut - shown_, stdout);
    std::fflush(stdout);
    shown_ = cut;
  }

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  size_t shown_ = 0;
};

void run(const Arguments& a) {
  OpenModel model(a.model, 1);
  const Tokenizer& tokenizer = model.tokenizer();
  std::vector<int32_t> prompt;
  if (tokenizer.bos_id() >= 0) prompt.push_back(tokenizer.bos_id());
  tokenizer.encode(a.prompt, prompt);
  SamplingOptions sampling = a.sampling;
  if (!a.ignore_eos) sampling.stop_id = tokenizer.eos_id();
  if (a.print_ids) {
    for (const int32_t id : generate(model.session(), prompt, model.config().data.sequence_length, sampling))
      fmt::print("{}\n", id);
    return;
  }
  TextStream stream(tokenizer, prompt);
  generate(model.session(), prompt, model.config().data.sequence_length, sampling,
           [&](int32_t id) { stream.show(id); });
  stream.finish();
  std::fputc('\n', stdout);
}
}  // namespace

void add_generate_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a trained model");
  const auto a = std::make_shared<Arguments>();
  add_model_arguments(*command, a->model);
  command->add_option("--prompt", a->prompt, "Text to continue")->required();
  command->add_option("--max-tokens", a->sampling.max_tokens, "Tokens to add at most (default 128)")
      ->check(CLI::PositiveNumber);
  command->add_option("--temperature", a->sampling.temperature, "0 = always the most likely token (default 1)")
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--top-k", a->sampling.top_k, "Choose among the k most likely; 0 = all (default)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-p", a->sampling.top_p, "Choose among the fewest that reach this probability (default 1)")
      ->check(CLI::Range(1e-6, 1.0));
  command->add_option("--seed", a->sampling.seed, "Of the choices (default 1)");
  command->add_flag("--ignore-eos", a->ignore_eos, "Go on past the end of a text");
  command->add_flag("--print-ids", a->print_ids, "Print the ids of the added tokens, one a line, and no text");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
