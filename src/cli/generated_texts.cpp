#include "cli/generated_texts.h"

#include <nlohmann/json.hpp>

#include "core/number_text.h"
#include "core/standard_streams.h"

namespace strand::cli {

using nlohmann::ordered_json;

namespace {
const char* to_string(Ending ending) {
  switch (ending) {
    case Ending::max_tokens:
      return "max_tokens";
    case Ending::stop_id:
      return "stop_id";
    case Ending::caller:
      return "stop";
    case Ending::context_full:
      return "context_full";
  }
  return "?";
}

void print_ids(const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) print_out("{}{}", i > 0 ? " " : "", ids[i]);
  print_out("\n");
}
}  // namespace

GeneratedTexts::GeneratedTexts(const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts,
                               const std::vector<std::string>& stops, const PrintedText& print)
    : tokenizer_(tokenizer),
      prompts_(prompts),
      print_(print),
      streaming_(print.form == TextForm::text && prompts.size() == 1) {
  texts_.reserve(prompts.size());
  for (const std::vector<int32_t>& prompt : prompts) texts_.emplace_back(tokenizer, prompt, stops);
}

AfterToken GeneratedTexts::append(size_t text, int32_t id) {
  texts_[text].append(id);
  if (streaming_) stream();
  return texts_[text].is_stopped() ? AfterToken::end_text : AfterToken::go_on;
}

std::string GeneratedTexts::prompt_text(size_t i) const {
  return print_.with_prompt ? tokenizer_.decode(prompts_[i]) : "";
}

/// Prints what is new of the only text.
void GeneratedTexts::stream() {
  if (!begun_) write_output(prompt_text(0));
  begun_ = true;
  write_output(texts_[0].settled().substr(shown_));
  flush_output();
  shown_ = texts_[0].settled().size();
}

void GeneratedTexts::finish(const std::vector<Continuation>& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    texts_[i].finish();
    if (print_.form == TextForm::ids)
      print_ids(results[i].ids);
    else if (print_.form == TextForm::json)
      print_json(i, results[i]);
    else
      print_text(i, results[i]);
  }
  flush_output();
}

void GeneratedTexts::print_text(size_t i, const Continuation& result) {
  if (streaming_) {
    stream();
    print_out("\n");
  } else {
    print_out("{}=== {} of {} ===\n{}{}\n", i > 0 ? "\n" : "", i + 1, texts_.size(), prompt_text(i),
              texts_[i].settled());
  }
  if (print_.log_probs) print_log_probs(result);
}

void GeneratedTexts::print_log_probs(const Continuation& result) const {
  print_out("\n{:>9} {:>8}  token\n", "log prob", "id");
  for (size_t i = 0; i < result.ids.size(); ++i)
    print_out("{:>9} {:>8}  {}\n", fixed_text(result.log_probs[i], 4), result.ids[i],
              ordered_json(tokenizer_.piece(result.ids[i])).dump());
}

void GeneratedTexts::print_json(size_t i, const Continuation& result) const {
  const bool stopped = texts_[i].is_stopped();
  ordered_json line = {{"text", texts_[i].settled()}};
  line["ending"] = to_string(stopped ? Ending::caller : result.ending);
  if (stopped) line["stop"] = texts_[i].stop();
  if (result.stop_id >= 0) line["stop_id"] = result.stop_id;
  line["ids"] = result.ids;
  line["log_probs"] = result.log_probs;
  line["prompt_ids"] = prompts_[i];
  print_out("{}\n", line.dump());
}

}  // namespace strand::cli
