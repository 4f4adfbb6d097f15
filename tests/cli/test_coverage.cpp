// Every option of every command and every key of the configuration is used by some test. What there is comes from the
// program's own help; what is used, from the text of the tests. This is a coarse net: it cannot see whether a test
// looks at what an option does, but an option that nobody ever tried does not pass through it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include "run_strand.h"
#include "tests/catch.h"

using namespace strand;

namespace {
namespace fs = std::filesystem;
using Words = std::set<std::string>;

std::string help(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_strand(arguments);
  REQUIRE(outcome.status == 0);
  return outcome.out;
}

/// The first word of each line that matches, in the order of the lines.
std::vector<std::string> found(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::vector<std::string> all;
  for (auto match = std::sregex_iterator(text.begin(), text.end(), regex); match != std::sregex_iterator(); ++match)
    all.push_back((*match)[1]);
  return all;
}

std::vector<std::string> commands() {
  const std::string text = help({"--help"});
  return found(text.substr(text.find("Subcommands:")), "\n  ([a-z-]+) ");
}

std::vector<std::string> options_of(const std::string& command) {
  return found(help({command, "--help"}), "\n  (?:-[a-z],)?(--[a-z-]+)");
}

struct Source {
  std::string path;
  std::string text;
  Words words;  ///< of its string literals; of a script, all of its words
};

Words words_of(const std::string& path, const std::string& text) {
  static const std::regex literal(R"re("((?:[^"\\\n]|\\.)*)")re"), word(R"([A-Za-z0-9_.-]+)");
  Words words;
  const auto add = [&](const std::string& part) {
    for (auto w = std::sregex_iterator(part.begin(), part.end(), word); w != std::sregex_iterator(); ++w)
      words.insert(w->str());
  };
  if (!path.ends_with(".cpp") && !path.ends_with(".h")) {
    add(text);
    return words;
  }
  for (auto l = std::sregex_iterator(text.begin(), text.end(), literal); l != std::sregex_iterator(); ++l) add((*l)[1]);
  // Helpers that start a training run for a test (e2e/workspace.h).
  if (text.find(".train(") != text.npos || text.find(".trained(") != text.npos) words.insert("train");
  return words;
}

/// The text of all tests but this one, without data files.
const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    std::vector<Source> read;
    const fs::path root = fs::path(STRAND_SOURCE_DIR) / "tests";
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const std::string path = entry.path().lexically_relative(root).string();
      const bool code = path.ends_with(".cpp") || path.ends_with(".h") || path.ends_with(".sh");
      if (!code || path == "cli/test_coverage.cpp") continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      read.push_back({path, text, words_of(path, text)});
    }
    return read;
  }();
  return all;
}

/// Whether a test gives this option to this command.
bool is_used(const std::string& command, const std::string& option) {
  for (const Source& source : sources())
    if (source.words.contains(command) && source.words.contains(option)) return true;
  return false;
}

/// Whether a test sets this key, as an override, in YAML or as a member, other than to try how configurations are read.
bool is_set(const std::string& group, const std::string& name) {
  const std::regex set("\\b" + group + R"(\.)" + name + R"(\b|\.)" + name + R"(\s*=[^=]|\b)" + name + ": ");
  for (const Source& source : sources())
    if (!source.path.starts_with("config/") && std::regex_search(source.text, set)) return true;
  return false;
}
}  // namespace

TEST_CASE("every option of every command is used by a test") {
  REQUIRE(commands().size() >= 12);
  for (const std::string& command : commands()) {
    const std::vector<std::string> options = options_of(command);
    REQUIRE(options.size() >= 2);
    for (const std::string& option : options) {
      INFO("strand " << command << " " << option);
      CHECK((option == "--help" || is_used(command, option)));
    }
    CHECK_FALSE(is_used(command, "--no-such-option"));
  }
}

TEST_CASE("every key of the configuration is set by a test that is not about reading configurations") {
  const std::vector<std::string> keys = found("\n" + help({"config", "--help-keys"}), "\n([a-z]+\\.[a-z0-9_]+) ");
  REQUIRE(keys.size() > 50);
  for (const std::string& key : keys) {
    INFO(key);
    const size_t point = key.find('.');
    CHECK(is_set(key.substr(0, point), key.substr(point + 1)));
  }
  CHECK_FALSE(is_set("train", "no_such_key"));
}
