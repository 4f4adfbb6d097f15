#pragma once
// Completion scripts for shells, made from the definition of the command line and from the table of configuration keys.
#include <CLI/CLI.hpp>
#include <string>

namespace strand::cli {

/// For bash 4 or later, without the package bash-completion: `source <(strand completion bash)`.
std::string bash_completion(const CLI::App& app);
/// A file _strand for a folder of zsh's $fpath.
std::string zsh_completion(const CLI::App& app);
/// A file strand.fish for a folder of fish's $fish_complete_path.
std::string fish_completion(const CLI::App& app);

}  // namespace strand::cli
