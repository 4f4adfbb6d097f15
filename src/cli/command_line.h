#pragma once
// The command line as data, read from CLI11's own definition of it: what manual.h and completion.h are made from, so
// that they know every option and no other.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace strand::cli {

/// What may stand at a place of the command line, as far as a shell can complete it.
enum class Completion : uint8_t { nothing, file, directory, yaml_file, setting };

struct ArgumentInfo {
  std::vector<std::string> names;  ///< "-h", "--help"; of a positional its placeholder, "CONFIG"
  std::string value;               ///< "FILE", "fp32|bf16"; "" = a flag, or a positional
  std::string meaning;
  std::vector<std::string> words;  ///< the choices among `value`: "fp32", "bf16"
  Completion completion = Completion::nothing;
  enum class Presence : uint8_t { optional, required } presence = Presence::optional;
  enum class Count : uint8_t { once, many } count = Count::once;

  bool is_flag() const { return value.empty(); }
  /// The last of the names, which is the long one.
  const std::string& name() const { return names.back(); }
};

struct CommandInfo {
  std::string name;
  std::string meaning;
  std::string example;  ///< "strand inspect runs/quickstart", or ""
  std::vector<ArgumentInfo> positionals, options;
};

/// The options of the program itself.
std::vector<ArgumentInfo> program_options(const CLI::App& app);
/// The commands that help shows, in its order.
std::vector<CommandInfo> program_commands(const CLI::App& app);

/// Lets options and positionals that name files or directories refuse "-", except where their help says that "- is
/// standard input": no command takes it for a file of that name, or writes one.
void refuse_dash(CLI::App& app);

}  // namespace strand::cli
