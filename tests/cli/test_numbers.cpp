// Gives every option that takes a number something that is no number or is out of range.
#include <regex>
#include <set>

#include "run_strand.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;

namespace {
std::vector<std::string> commands() {
  const std::string help = run_strand({"--help"}).out;
  std::vector<std::string> names;
  std::smatch match;
  const std::regex line(R"(\n  ([a-z-]+) +[A-Z])");
  for (auto at = help.cbegin() + static_cast<std::ptrdiff_t>(help.find("Subcommands:"));
       std::regex_search(at, help.cend(), match, line); at = match[0].second)
    names.push_back(match.str(1));
  return names;
}

/// The options in the text `help` whose value is of this kind.
std::vector<std::string> options(const std::string& help, const std::string& kind) {
  std::vector<std::string> names;
  const std::regex line("(--[a-z-]+) " + kind + "\\b");
  for (auto at = std::sregex_iterator(help.begin(), help.end(), line); at != std::sregex_iterator(); ++at)
    names.push_back((*at).str(1));
  return names;
}

/// Checks that the command line is refused, and that the message names the option and the value.
void check_refused(const std::string& command, const std::string& option, const std::string& value) {
  const Outcome outcome = run_strand({command, option, value});
  INFO(command << " " << option << " '" << value << "': " << outcome.err);
  CHECK(outcome.status == 2);
  CHECK_THAT(outcome.err, Contains(option) && Contains("'" + value + "' is not a") && Contains(" from "));
}
}  // namespace

TEST_CASE("A value that is no number, or out of range, is refused by every option that takes one") {
  const std::vector<std::string> not_whole = {"",
                                              "x",
                                              "7x",
                                              "1e3",
                                              "0x10",
                                              "1.5",
                                              "nan",
                                              "inf",
                                              "+3",
                                              " 4",
                                              "4 ",
                                              "--",
                                              "-1",
                                              "-9223372036854775809",
                                              "18446744073709551616",
                                              "99999999999999999999999999"};
  const std::vector<std::string> not_real = {"",       "x",    "0.5x", "nan", "-nan", "inf",  "-inf",   "1e999",
                                             "0x1p-1", " 0.5", "0.5 ", "-1",  "-0.5", "1e40", "-1e-999"};
  std::set<std::string> seen;
  for (const std::string& command : commands()) {
    const std::string help = run_strand({command, "--help"}).out;
    for (const std::string& option : options(help, "INTEGER")) {
      seen.insert(command + " " + option);
      for (const std::string& value : not_whole) check_refused(command, option, value);
    }
    for (const std::string& option : options(help, "REAL")) {
      seen.insert(command + " " + option);
      for (const std::string& value : not_real) check_refused(command, option, value);
    }
    // CLI11 reads numbers of its own kinds as it likes; add_number() is there instead.
    for (const char* kind : {"INT", "UINT", "FLOAT", "NUMBER"}) CHECK(options(help, kind).empty());
  }
  for (const char* some : {"generate --seed", "generate --top-p", "eval --batches", "eval --threads", "bench --steps",
                           "plan --ranks", "plan --flops", "plan --efficiency", "tokenize --seed",
                           "tokenize --val-fraction", "train-tokenizer --vocab-size", "train-tokenizer --sample-bytes",
                           "export --shard-size", "import --sequence-length", "verify --threads"})
    CHECK(seen.contains(some));
}

TEST_CASE("The ends of a range are in it") {
  // What is wrong comes after the numbers: there is no such checkpoint.
  for (const char* seed : {"0", "18446744073709551615", "010"}) {
    const Outcome outcome = run_strand({"generate", "nothing", "--prompt", "a", "--seed", seed, "--top-p", "1e0"});
    CHECK(outcome.status == 1);
    CHECK_THAT(outcome.err, Contains("nothing"));
  }
}
