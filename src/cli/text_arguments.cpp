#include "cli/text_arguments.h"

#include <cstdint>

#include "cli/choice_option.h"
#include "cli/number_option.h"

namespace strand::cli {

namespace {
// SentencePiece and ICU count bytes in 32 bits, and normalization may turn one byte into three.
constexpr uint64_t largest_document_mebibytes = 512;
}  // namespace

void add_text_arguments(CLI::App& command, std::vector<std::string>& inputs, TextOptions& options) {
  command
      .add_option("INPUT", inputs,
                  "Text: .txt (a document a file), .jsonl or .json (an object with \"text\" a line), plain, .gz or "
                  ".zst, or directories of them")
      ->type_name("")
      ->required();
  command.add_option("--text-key", options.text_key, "Key of the text in .jsonl and .json (default text)")
      ->type_name("KEY");
  add_number(command, "--skip-bad-records", options.skip_bad_records, uint64_t{0}, uint64_t{1} << 62,
             "Lines of .jsonl and .json that may be bad; each is named and left out (default 0)");
  const auto set_max_document = [&options](const std::string& text) {
    options.max_document = parse_number("--max-document", text, uint64_t{1}, largest_document_mebibytes) << 20;
  };
  command
      .add_option_function<std::string>(
          "--max-document", set_max_document,
          "MiB of text to hold in memory as one, where a document cannot be cut; also of "
          "a line of .jsonl (default 128); to encode a document that cannot be cut takes some 100 times its size")
      ->type_name("INTEGER");
}

void add_token_format(CLI::App& command, std::string& format, const std::string& help) {
  add_choice(command, "--format", format, {"auto", "megatron", "llmc", "raw_u16", "raw_i32"}, help);
}

}  // namespace strand::cli
