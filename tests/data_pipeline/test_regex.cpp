// Patterns of Hugging Face's engine in PCRE2: white space is the property White_Space and nothing else, what both
// engines read alike finds the same, and what they read differently is refused by name.
#include <set>
#include <string>
#include <vector>

#include "data/bpe/regex.h"
#include "data/utf8.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {
// PropList.txt of the Unicode Character Database, White_Space.
const std::set<char32_t> white_space = {0x09,   0x0A,   0x0B,   0x0C,   0x0D,   0x20,   0x85,   0xA0,   0x1680,
                                        0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                        0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "test");
  RegexSearch search(regex);
  std::vector<std::string> found;
  for (size_t at = 0; at < text.size();) {
    const ByteRange match = search.find(text, at);
    if (match.begin < match.end) found.push_back(text.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  return found;
}

using Texts = std::vector<std::string>;
}  // namespace

TEST_CASE("White space is what Unicode says, alone and in a class") {
  const std::vector<std::string> is_space = {R"(\s)", R"([\s])", R"([^\S])", R"([x\s])"};
  const std::vector<std::string> is_none = {R"(\S)", R"([^\s])", R"([\S])"};
  for (const auto& [patterns, wanted] : {std::pair(is_space, true), std::pair(is_none, false)}) {
    for (const std::string& pattern : patterns) {
      const Regex regex(pattern, "test");
      RegexSearch search(regex);
      int64_t wrong = 0;
      for (char32_t c = 1; c <= 0x10FFFF; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        if (c == 'x') continue;
        std::string text;
        append_utf8(c, text);
        const bool found = search.find(text, 0).begin < text.size();
        wrong += found != (white_space.contains(c) == wanted) ? 1 : 0;
      }
      INFO(pattern);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("Patterns find what Oniguruma finds") {
  CHECK(matches(R"((?i:'s|'ll)|\p{L}+)", "It'S we'lL") == Texts{"It", "'S", "we", "'lL"});
  CHECK(matches(R"(\s+(?!\S)|\s+)", "a   b ") == Texts{"  ", " ", " "});
  CHECK(matches(R"([^\r\n\p{L}\p{N}]?+\p{L}+)", "\nab-cd") == Texts{"ab", "-cd"});
  CHECK(matches(R"(\p{N}{1,3})", "12345\u0663") == Texts{"123", "45\u0663"});
  CHECK(matches(R"(\p{Han}+)", "ab\u4e2d\u6587\u3002") == Texts{"\u4e2d\u6587"});  // no script extensions
  CHECK(matches(R"([\u4e00-\u9fa5]|\x41|\x{1F600})", "\u4e2dAB\U0001F600") == Texts{"\u4e2d", "A", "\U0001F600"});
  CHECK(matches(R"([\[\]\-a&])", "a-[&x]") == Texts{"a", "-", "[", "&", "]"});
  CHECK(matches(R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)", "\\end ^x y") == Texts{"\\end", "^x"});
  CHECK(matches(quoted_pattern("a.(*\u00e9\n"), "ab(*\u00e9\n a.(*\u00e9\n") == Texts{"a.(*\u00e9\n"});
  CHECK(matches("x", "").empty());
}

TEST_CASE("A search takes texts that are too long for the stack") {
  const std::string spaces(1000000, ' ');
  CHECK(matches(R"(\s+(?!\S)|\s+)", spaces + "x") == Texts{spaces.substr(1), " "});
  CHECK(matches(R"((?:a|b)+)", std::string(300000, 'a')) == Texts{std::string(300000, 'a')});
}

TEST_CASE("What the engines read differently is refused by name") {
  for (const std::string pattern :
       {R"(\w+)", R"(\b)", R"(\h)",  R"(\R)",       R"(\X)",  R"(\K)",     R"(\G)",   R"(\1)",   R"(\e)",
        "^a",     "a$",    "[a[b]]", "[[:alpha:]]", "[a&&b]", "[]a]",      "(?i)a",   "(?m:a)",  "(?<n>a)",
        "a{,2}",  "a{2}+", "a{2}?",  "a{x}",        R"(\p)",  R"(\p{L&})", R"(\x{})", R"(\xZZ)", R"(\u12)"}) {
    INFO(pattern);
    check_error([&] { Regex regex(pattern, "here"); }, {"here: \"", "is not understood", pattern});
  }
  for (const std::string pattern : {"(a", "a)", "[b-a]", R"(\p{Klingon})", "*"}) {
    INFO(pattern);
    check_error([&] { Regex regex(pattern, "here"); }, {"here: ", pattern, "is not understood: "});
  }
  check_error([&] { Regex regex("[a", "here"); }, {"here", "a class without its end"});
  check_error([&] { Regex regex("a\\", "here"); }, {"here", "ends in a backslash"});
  check_error([&] { Regex regex("a*", "here"); }, {"here", "a*", "may match nothing"});
  check_error([&] { Regex regex("", "here"); }, {"here", "empty"});
}

TEST_CASE("A pattern that takes for ever is an error, not a wait") {
  const Regex regex("(?:a|aa)+[bc]", "here");
  RegexSearch search(regex);
  check_error([&] { search.find(std::string(100, 'a'), 0); }, {"here", "(?:a|aa)+[bc]", "cannot be applied"});
}
