// What Python does to text. Expected values are what Python 3.11 prints, unless said otherwise.
#include "core/sha256.h"
#include "tasks/text_rules.h"
#include "tests/catch.h"

using namespace strand;

TEST_CASE("SHA-256 of the standard's examples, and of lengths around a block") {
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // sha256sum
  CHECK(sha256(std::string(55, 'x')) == "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072");
  CHECK(sha256(std::string(56, 'x')) == "04c26261370ee7541549d16dee320c723e3fd14671e66a099afe0a377c16888e");
  CHECK(sha256(std::string(64, 'x')) == "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c");
}

TEST_CASE("white space is Unicode's, at both ends") {
  CHECK(strip(" \t\n a b \r\n\x0b\x0c\x1c\x1d\x1e\x1f") == "a b");
  CHECK(strip("\u00a0\u2003\u3000\u0085 x\u202f\u205f\u1680") == "x");
  CHECK(strip("\u200bx\ufeff") == "\u200bx\ufeff");  // neither is white space
  CHECK(strip(" \u2009 ").empty());
  CHECK(strip("").empty());
  CHECK(strip_left("  é ") == "é ");
  CHECK(strip_right(" é\u2028") == " é");
}

TEST_CASE("capitalize, replace, lengths and words") {
  CHECK(capitalize("") == "");
  CHECK(capitalize("he Saw THE cat.") == "He saw the cat.");
  CHECK(capitalize("1 ABC") == "1 abc");
  CHECK(replace_all("aaaa", "aa", "b") == "bb");
  CHECK(replace_all("     ", "  ", " ") == "   ");
  CHECK(code_points("naïve 🦜") == 7);
  CHECK(words("a b  c\n\nd") == 4);
  CHECK(words(" a ") == 3);
  CHECK(words("") == 1);
  CHECK(words("a\u00a0b\u2003c") == 3);
}

TEST_CASE("HellaSwag's clean-up") {
  CHECK(clean_hellaswag(" [header] How to fly [title] Get wings. [step] Flap ") == " How to fly. Get wings. Flap");
  CHECK(clean_hellaswag("a [one\ntwo] b") == "a [one\ntwo] b");
  CHECK(clean_hellaswag("a [x] [y [z] b] c") == "a  b] c");
  CHECK(clean_hellaswag("open [ only") == "open [ only");
  CHECK(clean_hellaswag("one   two    three") == "one  two  three");
}

TEST_CASE("WikiText as one would write it") {
  const std::string page =
      " = Robert = \n \n The ship 's crew of 1 @,@ 200 men sailed ; they said \" hello \" ( twice ) . \n = = Later = = "
      "\n In N days , it rained at 3 @.@ 5 mm . \n";
  CHECK(detokenize_wikitext(page) ==
        " = Robert =\n\nThe ship's crew of 1,200 men sailed; they said \"hello\" (twice).\n== Later ==\nIn 1 days, it "
        "rained at 3.5 mm.\n");
  CHECK(words(page) == 42);
  CHECK(page.size() == 148);
  CHECK(detokenize_wikitext("/' 5/ and \" a \" b \" c") == "/'[0-9]/ and \"a\" b \" c");
  CHECK(detokenize_wikitext("( ) ( a ( b ) c )") == "() (a ( b) c )");
  CHECK(detokenize_wikitext("{ x } [ y ] = = = = deep = = = = 3 ° C half @-@ way : no") ==
        "{x} [y] ==== deep ==== 3°C half-way: no");
}
