// The stages of a pre_tokenizer: what each kind of stage makes of a text, worked out by hand. The pieces of
// "the-final-- countdown" are those that the documentation of Hugging Face's tokenizers gives for each behavior.
#include <string>
#include <utility>
#include <vector>

#include "bpe_json.h"
#include "data/bpe/pre_tokenizer.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand_test;
using nlohmann::json;

namespace {
using Pieces = std::vector<std::string>;
using Spans = std::vector<std::pair<int32_t, ByteRange>>;

Pieces pieces_of(const std::vector<SplitterStage>& stages, const std::string& text) {
  Pieces pieces;
  Splitter(stages).split(text, [&](const TextPiece& piece) { pieces.emplace_back(piece.text); });
  return pieces;
}

SplitStage split(const std::string& pattern, SplitBehavior behavior, bool invert = false) {
  return {Regex(pattern, "the test"), behavior, invert};
}

/// The tokenizer of small_json with these stages.
std::unique_ptr<const Tokenizer> with_stages(const std::vector<json>& stages) {
  json content = small_json(hello);
  content["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", stages}};
  return tokenizer_of(content);
}

json byte_level(bool prefix_space, bool regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}, {"use_regex", regex}};
}

Spans spans_of(const Tokenizer& tokenizer, const std::string& text) {
  Spans spans;
  for (const TokenSpan& span : tokenizer.encode_with_spans(text)) spans.emplace_back(span.id, span.bytes);
  return spans;
}

const std::string countdown = "the-final--countdown";
}  // namespace

TEST_CASE("What matches is a piece of its own, is removed, or ends the piece before it") {
  CHECK(pieces_of({split("-", SplitBehavior::isolated)}, countdown) ==
        Pieces{"the", "-", "final", "-", "-", "countdown"});
  CHECK(pieces_of({split("-", SplitBehavior::removed)}, countdown) == Pieces{"the", "final", "countdown"});
  CHECK(pieces_of({split("-", SplitBehavior::merged_with_previous)}, countdown) ==
        Pieces{"the-", "final-", "-", "countdown"});
  // At the begin there is no piece that a match could end, and at the end no other one begins.
  CHECK(pieces_of({split("-", SplitBehavior::merged_with_previous)}, "-a-") == Pieces{"-", "a-"});
  CHECK(pieces_of({split("-", SplitBehavior::merged_with_previous)}, "--") == Pieces{"-", "-"});
  CHECK(pieces_of({split("-", SplitBehavior::removed)}, "--").empty());
  CHECK(pieces_of({split("-", SplitBehavior::isolated)}, "").empty());
}

TEST_CASE("Inverted, what does not match is treated as a match") {
  CHECK(pieces_of({split("[a-z]+", SplitBehavior::removed, true)}, countdown) == Pieces{"the", "final", "countdown"});
  CHECK(pieces_of({split("[a-z]+", SplitBehavior::merged_with_previous, true)}, countdown) ==
        Pieces{"the-", "final--", "countdown"});
  CHECK(pieces_of({split("[a-z]+", SplitBehavior::isolated, true)}, "a1") == Pieces{"a", "1"});
}

TEST_CASE("Each stage splits the pieces of the one before") {
  CHECK(pieces_of({split("-", SplitBehavior::removed), split("n", SplitBehavior::merged_with_previous)}, countdown) ==
        Pieces{"the", "fin", "al", "coun", "tdown"});
  // A stage begins anew in each piece: "-" ends nothing of the piece before it.
  CHECK(pieces_of({split("-", SplitBehavior::isolated), split("-", SplitBehavior::merged_with_previous)}, "a-b") ==
        Pieces{"a", "-", "b"});
}

TEST_CASE("ByteLevel's own pattern is that of GPT-2, and Digits takes them together or one by one") {
  const auto pieces = [](const std::vector<SplitterStage>& stages) {
    return pieces_of(stages, "It's  all 12ab!?\n x");
  };
  CHECK(pieces({split(gpt2_pattern, SplitBehavior::isolated)}) ==
        Pieces{"It", "'s", " ", " all", " 12", "ab", "!?", "\n", " x"});
  // "12" and "2a" are tokens, which text has only within one piece.
  json content = small_json({{"1", "2"}, {"2", "a"}});
  const auto ids = [&](const json& stage) {
    content["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {stage, byte_level(false, false)}}};
    return tokenizer_of(content)->encode("12a");
  };
  CHECK(ids({{"type", "Digits"}, {"individual_digits", false}}) == Ids{256, 'a'});
  CHECK(ids({{"type", "Digits"}}) == Ids{256, 'a'});
  CHECK(ids({{"type", "Digits"}, {"individual_digits", true}}) == Ids{'1', '2', 'a'});
  content["pre_tokenizer"] = byte_level(false, true);
  CHECK(tokenizer_of(content)->encode("12a") == Ids{256, 'a'});
  content["pre_tokenizer"] = byte_level(false, false);  // one piece, in which the first merge wins
  CHECK(tokenizer_of(content)->encode("2a") == Ids{257});
}

// Such a space stands for no byte of the text, and the bytes behind it keep their places.
TEST_CASE("A space before the text, or before each piece, moves no token's place") {
  const auto before_text = with_stages({byte_level(true, true)});
  CHECK(spans_of(*before_text, "hello w") == Spans{{' ', {0, 0}}, {hello_id, {0, 5}}, {space_w, {5, 7}}});
  CHECK(spans_of(*before_text, "w w") == Spans{{space_w, {0, 1}}, {space_w, {1, 3}}});
  CHECK(spans_of(*before_text, " w") == Spans{{space_w, {0, 2}}});
  CHECK(spans_of(*before_text, "!a") == Spans{{' ', {0, 0}}, {'!', {0, 1}}, {'a', {1, 2}}});
  const json split_stage = small_json(hello)["pre_tokenizer"]["pretokenizers"][0];
  const auto before_pieces = with_stages({split_stage, byte_level(true, false)});
  CHECK(spans_of(*before_pieces, "a1 w") ==
        Spans{{' ', {0, 0}}, {'a', {0, 1}}, {' ', {1, 1}}, {'1', {1, 2}}, {space_w, {2, 4}}});
  CHECK(before_pieces->decode(before_pieces->encode("a1 w")) == " a 1 w");
}
