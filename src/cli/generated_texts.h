#pragma once
// The texts of `strand generate` while they grow, and how they are printed.
#include <string>
#include <vector>

#include "infer/generate.h"
#include "data/growing_text.h"

namespace strand::cli {

/// What is printed of each text: the text; the ids alone; a JSON object.
enum class TextForm : uint8_t { text, ids, json };

struct PrintedText {
  TextForm form = TextForm::text;
  bool with_prompt = true;  ///< the text begins with its prompt
  bool log_probs = false;   ///< a table of the tokens follows; only with TextForm::text
};

class GeneratedTexts {
 public:
  /// The ids of the prompts, the texts that end one, and how to print. `tokenizer` and `prompts` outlive it.
  GeneratedTexts(const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts,
                 const std::vector<std::string>& stops, const PrintedText& print);

  /// Adds a token. A single text is printed while it grows.
  AfterToken append(size_t text, int32_t id);
  /// Prints what was not printed yet.
  void finish(const std::vector<Continuation>& results);

 private:
  void stream();
  void print_text(size_t i, const Continuation& result);
  void print_json(size_t i, const Continuation& result) const;
  void print_log_probs(const Continuation& result) const;
  std::string prompt_text(size_t i) const;

  const Tokenizer& tokenizer_;
  const std::vector<std::vector<int32_t>>& prompts_;
  PrintedText print_;
  std::vector<GrowingText> texts_;
  bool streaming_;
  bool begun_ = false;
  size_t shown_ = 0;  ///< bytes of the text that is streamed
};

}  // namespace strand::cli
