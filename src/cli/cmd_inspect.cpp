// strand inspect PATH: says what a path is.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "cli/text_arguments.h"
#include "core/standard_streams.h"
#include "report/describe_path.h"

namespace strand::cli {

namespace {
struct Options {
  std::string path;
  std::string format = "auto";
  std::string tokenizer;
};

void run(const Options& options) {
  const InspectOptions how{parse_token_format(options.format), options.tokenizer};
  print_out("{}", describe_path(options.path, how));
}
}  // namespace

void add_inspect_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "inspect",
      "Say what a path is: checkpoint, run directory, model directory of Hugging Face, GGUF or safetensors "
      "file, token file, tokenizer");
  command->footer("Example: strand inspect runs/quickstart");
  const auto options = std::make_shared<Options>();
  command->add_option("PATH", options->path, "File, directory, or prefix of a token file")->type_name("")->required();
  add_token_format(*command, options->format, "Read PATH as a token file of this format (default auto: find out)");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "SentencePiece .model or tokenizer.json, to show a token file as text")
      ->type_name("FILE");
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
