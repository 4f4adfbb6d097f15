// strand completion SHELL, strand manual: what is installed beside the program, made from its own definitions. They are
// for packagers and not shown by --help.
#include <memory>

#include "cli/choice_option.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/manual.h"
#include "core/standard_streams.h"

namespace strand::cli {

void add_document_commands(CLI::App& app) {
  using Make = std::string (*)(const CLI::App&);
  const auto make = std::make_shared<Make>();
  CLI::App* completion = app.add_subcommand("completion", "Print a completion script")->group("");
  add_choice<Make>(*completion, "SHELL", *make,
                   {{"bash", bash_completion}, {"zsh", zsh_completion}, {"fish", fish_completion}}, "The shell")
      ->required();
  completion->callback([&app, make] { print_out("{}", (*make)(app)); });
  CLI::App* manual = app.add_subcommand("manual", "Print the manual page, in roff")->group("");
  manual->callback([&app] { print_out("{}", manual_page(app)); });
}

}  // namespace strand::cli
