// What is made from the definition of the command line: help, the manual page and completion. What is expected is read
// from --help, line by line, or typed here. Completion is what bash itself makes of the script.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "run_strand.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;

namespace {
namespace fs = std::filesystem;

/// What `strand ARGUMENTS...` prints. It runs once for each list of arguments.
const std::string& output_of(const std::vector<std::string>& arguments) {
  static std::map<std::vector<std::string>, std::string> known;
  if (const auto found = known.find(arguments); found != known.end()) return found->second;
  const Outcome outcome = run_strand(arguments);
  REQUIRE(outcome.status == 0);
  CHECK(outcome.err.empty());
  return known[arguments] = outcome.out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The names under "Subcommands:" of --help.
std::vector<std::string> commands() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names;
    bool there = false;
    for (const std::string& line : lines_of(output_of({"--help"}))) {
      std::smatch match;
      if (line == "Subcommands:") there = true;
      if (there && std::regex_search(line, match, std::regex("^  ([a-z-]+) "))) names.push_back(match[1]);
    }
    return names;
  }();
  return all;
}

/// The long options of a command, as its --help lists them.
std::vector<std::string> options_of(const std::string& command) {
  std::vector<std::string> names;
  for (const std::string& line : lines_of(output_of({command, "--help"}))) {
    std::smatch match;
    if (std::regex_search(line, match, std::regex("^  (-[a-z],)?(--[a-z-]+)"))) names.push_back(match[2]);
  }
  return names;
}

/// A hyphen of the manual page is written \-.
std::string in_roff(const std::string& text) {
  return std::regex_replace(text, std::regex("-"), "\\-");
}

/// The part of the manual page between the heading of one command and the next.
std::string manual_of(const std::string& command) {
  const std::string page = output_of({"manual"});
  const size_t begin = page.find(".SS \\fBstrand " + in_roff(command) + "\\fR");
  REQUIRE(begin != std::string::npos);
  return page.substr(begin, page.find("\n.S", begin) - begin);
}

/// What bash completes when the cursor stands at the end of the last word, for each list of words.
std::vector<std::string> completed(const std::vector<std::string>& lines) {
  const fs::path folder = fs::temp_directory_path() / ("strand_completion." + std::to_string(getpid()));
  fs::create_directories(folder / "some folder");
  std::ofstream(folder / "a.yaml");
  std::ofstream(folder / "text.txt");
  std::ofstream(folder / "completion") << output_of({"completion", "bash"});
  std::string script = "source completion\ncompopt() { :; }\n";  // compopt works in a real completion only
  for (const std::string& line : lines) {
    script += "COMP_WORDS=(" + line + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _strand; echo \"${COMPREPLY[*]}\"\n";
  }
  const Outcome outcome = run_program({"/bin/bash", "-c", script}, folder.string());
  fs::remove_all(folder);
  CHECK(outcome.status == 0);
  CHECK(outcome.err.empty());
  std::vector<std::string> replies = lines_of(outcome.out);
  REQUIRE(replies.size() == lines.size());
  return replies;
}
}  // namespace

TEST_CASE("help says of every command, option and argument what it is") {
  CHECK(commands().size() >= 12);
  for (const std::string& command : commands()) {
    const std::string help = output_of({command, "--help"});
    INFO(help);
    const std::vector<std::string> lines = lines_of(help);
    CHECK(lines[0].size() > 20);
    CHECK_THAT(help, Contains("\nExample: strand " + command + " "));
    for (size_t i = 0; i < lines.size(); ++i) {
      if (!std::regex_search(lines[i], std::regex("^  [^ ]"))) continue;
      // The description follows in the column of descriptions, or on the next line.
      const bool same_line = lines[i].size() > 30 && lines[i][29] == ' ' && lines[i][30] != ' ';
      const bool next_line = i + 1 < lines.size() && std::regex_search(lines[i + 1], std::regex("^ {30}[^ ]"));
      INFO(lines[i]);
      CHECK((same_line || next_line));
    }
    CHECK_THAT(help, !Contains("TEXT:") && !Contains("ENUM") && !Contains(":FILE"));
  }
}

TEST_CASE("the manual page has every command with all of its options, and every key of a configuration") {
  size_t options = 0;
  for (const std::string& command : commands()) {
    const std::string part = manual_of(command);
    const std::vector<std::string> wanted = options_of(command);
    for (const std::string& option : wanted) {
      INFO(command << " " << option);
      CHECK_THAT(part, Contains("\\fB" + in_roff(option) + "\\fR"));
    }
    // The manual page has no other options.
    const std::regex head("(^|, )\\\\fB\\\\-\\\\-([a-z\\\\-]+)\\\\fR");
    for (const std::string& line : lines_of(part)) {
      std::smatch match;
      if (!std::regex_search(line, match, head)) continue;
      const std::string option = "--" + std::regex_replace(match[2].str(), std::regex("\\\\-"), "-");
      INFO(command << " " << option);
      CHECK(std::count(wanted.begin(), wanted.end(), option) == 1);
      ++options;
    }
  }
  CHECK(options > 70);
  const std::string page = output_of({"manual"});
  for (const std::string& line : lines_of(output_of({"config", "--help-keys"}))) {
    const std::string key = line.substr(0, line.find(' '));
    if (key.find('.') != std::string::npos) CHECK_THAT(page, Contains("\n\\fB" + in_roff(key) + "\\fR: "));
  }
}

TEST_CASE("bash completes every command and every option") {
  std::vector<std::string> lines, wanted;
  for (const std::string& command : commands()) {
    lines.push_back("strand " + command.substr(0, command.size() - 1));
    wanted.push_back(command);
    for (const std::string& option : options_of(command)) {
      lines.push_back("strand " + command + " " + option.substr(0, option.size() - 1));
      wanted.push_back(option);
    }
  }
  const std::vector<std::string> replies = completed(lines);
  for (size_t i = 0; i < lines.size(); ++i) {
    INFO(lines[i] << ": " << replies[i]);
    CHECK_THAT(" " + replies[i] + " ", Contains(" " + wanted[i] + " "));
  }
}

TEST_CASE("bash completes the words, files and keys that arguments take") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"strand eval runs --format ''", "auto megatron llmc raw_u16 raw_i32"},
      {"strand verify --precision f", "fp64 fp32"},
      {"strand verify --precision = b", "bf16"},  // bash makes a word of "="
      {"strand verify --precision =", "fp64 fp32 bf16"},
      {"strand verify --precision=b", "--precision=bf16"},  // a bash that was told not to
      {"strand plan --device h", "h100 h200"},
      {"strand train --resume a", "auto"},
      {"strand train --resume some", "some folder"},
      {"strand train ''", "a.yaml some folder"},
      {"strand verify t", "text.txt"},
      {"strand train a.yaml --set moe.sc", "moe.score="},
      {"strand train a.yaml --set moe.score = s", "softmax sigmoid"},
      {"strand train a.yaml --set moe.score=so", "moe.score=softmax"},
      {"strand train a.yaml --set moe.top_k = ''", ""},
      {"strand eval runs --json --ba", "--batches --batch-size --batch-tokens"},  // after a flag
      {"strand eval runs --batches ''", ""},                                      // a number
      {"strand --v", "--version"},
  };
  std::vector<std::string> lines;
  for (const auto& [line, expected] : cases) lines.push_back(line);
  const std::vector<std::string> replies = completed(lines);
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO(lines[i]);
    CHECK(replies[i] == cases[i].second);
  }
}

TEST_CASE("zsh's and fish's completions have every option with its command") {
  const std::string zsh = output_of({"completion", "zsh"}), fish = output_of({"completion", "fish"});
  for (const std::string& command : commands()) {
    const size_t begin = zsh.find("\n    " + command + ")\n");
    REQUIRE(begin != std::string::npos);
    const std::string part = zsh.substr(begin, zsh.find(";;", begin) - begin);
    for (const std::string& option : options_of(command)) {
      INFO(command << " " << option);
      CHECK(std::regex_search(part, std::regex("'\\*?" + option + "=?\\[[^\\]]{8,}\\]")));
      CHECK(std::regex_search(
          fish, std::regex("__fish_seen_subcommand_from " + command + "' -l " + option.substr(2) + " .*-d '.{8,}'")));
    }
  }
}

TEST_CASE("commands for packagers are not shown, and say what they take") {
  CHECK_THAT(output_of({"--help"}), !Contains("completion") && !Contains("manual"));
  const Outcome outcome = run_strand({"completion", "bsh"});
  CHECK(outcome.status == 2);
  CHECK_THAT(outcome.err, Contains("'bsh' is none of bash, zsh, fish (did you mean 'bash'?)"));
}

TEST_CASE("a word that an option does not take is answered with those that it takes") {
  const std::vector<std::vector<std::string>> commands = {{"verify", "x", "--precision", "fp31"},
                                                          {"eval", "x", "--data", "x", "--precision", "fp31"},
                                                          {"generate", "x", "--precision=fp31"}};
  for (std::vector<std::string> command : commands) {
    if (command[0] == "verify") command[1] = STRAND_SOURCE_DIR "/README.md";
    const Outcome outcome = run_strand(command);
    CHECK(outcome.status == 2);
    CHECK_THAT(outcome.err, Contains("--precision: 'fp31' is none of fp64, fp32, bf16 (did you mean 'fp32'?)"));
  }
}

TEST_CASE("the version is written in one place") {
  const std::string version = STRAND_PROJECT_VERSION;
  const std::string said = output_of({"--version"});
  CHECK(said.substr(0, said.find('\n')) == "strand " + version);
  CHECK_THAT(output_of({"manual"}), Contains("\"strand " + version + "\""));
  for (const std::string shell : {"bash", "zsh", "fish"})
    CHECK_THAT(output_of({"completion", shell}), Contains("strand " + version + " for " + shell));
  const fs::path root = STRAND_SOURCE_DIR;
  for (const char* folder : {"src", "kernels", "cmake", "scripts", "data_tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path());
      std::ostringstream text;
      text << in.rdbuf();
      INFO(entry.path());
      CHECK(text.str().find('"' + version + '"') == std::string::npos);
      CHECK(text.str().find("strand " + version) == std::string::npos);
    }
  }
}
