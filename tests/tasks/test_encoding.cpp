// From texts to token ids: white space at the border, BOS, the prefix token, truncation, windows of whole texts.
#include "tasks/encoding.h"
#include "tasks/model_scorer.h"
#include "tests/catch.h"
#include "tests/export/small_tokenizer.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;

namespace {
using Ids = std::vector<int32_t>;

const Tokenizer& tokenizer() {
  static const TemporaryDirectory directory;
  static const std::unique_ptr<const Tokenizer> owner_of_one = small_tokenizer(directory);
  const Tokenizer& one = *owner_of_one;
  return one;
}

Ids with_bos(Ids ids) {
  ids.insert(ids.begin(), tokenizer().bos_id());
  return ids;
}

TokenRequest encoded(const std::string& context, const std::string& continuation, BeginText begin = BeginText::with_bos,
                     int64_t max_length = 1000) {
  const RequestEncoder encoder(tokenizer(), begin, max_length);
  const TextRequest request{context, continuation, Likelihood::of_continuation, "file: line 3"};
  const std::vector<EncodedRequest> all = encoder.encode({&request, 1});
  REQUIRE(all.size() == 1);
  REQUIRE(all[0].parts.size() == 1);
  return all[0].parts[0];
}

Ids joined(const TokenRequest& request) {
  Ids all = request.context;
  all.insert(all.end(), request.continuation.begin(), request.continuation.end());
  return all;
}

TextRequest text(const std::string& words) {
  return {"", words, Likelihood::of_text, "file: line 1"};
}
}  // namespace

TEST_CASE("a continuation is what the context leaves of the ids of both together") {
  for (const BeginText begin : {BeginText::with_bos, BeginText::plain}) {
    const TokenRequest request = encoded("the router selects", " experts which learn", begin);
    Ids context = tokenizer().encode("the router selects"),
        whole = tokenizer().encode("the router selects experts which learn");
    if (begin == BeginText::with_bos) context = with_bos(context), whole = with_bos(whole);
    CHECK(request.context == context);
    CHECK(joined(request) == whole);
    CHECK_FALSE(request.continuation.empty());
  }
}

TEST_CASE("white space at the end of a context belongs to the continuation") {
  const TokenRequest moved = encoded("the router \n\u00a0", "experts"),
                     plain = encoded("the router", " \n\u00a0experts");
  CHECK(moved.context == plain.context);
  CHECK(moved.continuation == plain.continuation);
  CHECK(moved.context == with_bos(tokenizer().encode("the router")));
}

TEST_CASE("a context without a letter is the prefix token") {
  for (const BeginText begin : {BeginText::with_bos, BeginText::plain}) {
    const TokenRequest request = encoded("", "the router", begin);
    CHECK(request.context == Ids{tokenizer().bos_id()});
    CHECK(request.continuation == tokenizer().encode("the router"));
    const TokenRequest blank = encoded("  ", "the", begin);
    CHECK(blank.context == Ids{tokenizer().bos_id()});
    CHECK_FALSE(blank.continuation.empty());
  }
  // A continuation that begins with BOS in letters has it as its context already.
  const std::string bos = tokenizer().piece(tokenizer().bos_id());
  CHECK(encoded("", bos + "the router").continuation == tokenizer().encode("the router"));
  CHECK(encoded(bos + "the router", " learn").context == with_bos(tokenizer().encode("the router")));
}

TEST_CASE("what is too long loses its beginning") {
  const std::string context = "the router selects experts which learn different things", continuation = " and couple";
  const TokenRequest whole = encoded(context, continuation);
  const Ids all = joined(whole);
  const auto n = static_cast<int64_t>(all.size()), k = static_cast<int64_t>(whole.continuation.size());
  REQUIRE(k >= 2);
  CHECK(joined(encoded(context, continuation, BeginText::with_bos, n - 1)) == all);  // the last token is not read
  const TokenRequest cut = encoded(context, continuation, BeginText::with_bos, n - 3);
  CHECK(joined(cut) == Ids(all.begin() + 2, all.end()));
  CHECK(cut.continuation == whole.continuation);
  const TokenRequest shortest = encoded(context, continuation, BeginText::with_bos, k);
  CHECK(shortest.context.size() == 1);
  CHECK_THROWS_WITH(encoded(context, continuation, BeginText::with_bos, k - 1),
                    Contains("file: line 3: the continuation has") && Contains("reads at most"));
  const RequestEncoder encoder(tokenizer(), BeginText::with_bos, n - 3);
  const TextRequest requests[] = {{context, continuation, {}, ""}, {context, " a", {}, ""}};
  const std::vector<EncodedRequest> both = encoder.encode(requests);
  CHECK(both[0].cut);
  CHECK(encoder.encode({requests, 1})[0].parts[0].context == both[0].parts[0].context);
  CHECK_THROWS_WITH(encoded("the", ""), Contains("file: line 3: the continuation has no token"));
}

TEST_CASE("each token of a whole text is scored once, after as many as fit") {
  const std::string words = "the router selects experts which learn different things and couple across layers";
  const Ids ids = tokenizer().encode(words), all = with_bos(ids);
  const auto n = static_cast<int64_t>(ids.size());
  for (int64_t m = 1; m <= n + 2; ++m) {
    const RequestEncoder encoder(tokenizer(), BeginText::with_bos, m);
    const EncodedRequest encoded = encoder.encode_text(text(words));
    Ids scored;
    for (size_t w = 0; w < encoded.parts.size(); ++w) {
      const TokenRequest& part = encoded.parts[w];
      scored.insert(scored.end(), part.continuation.begin(), part.continuation.end());
      // The tokens that end with the last scored one; BOS once, at the beginning, and never scored.
      const Ids window = joined(part);
      const auto end = all.begin() + 1 + static_cast<std::ptrdiff_t>(scored.size());
      CHECK(std::equal(window.rbegin(), window.rend(), std::make_reverse_iterator(end)));
      const bool first = w == 0;
      CHECK(static_cast<int64_t>(part.inputs()) == (first ? std::min(m, n) : m));
    }
    CHECK(scored == ids);
    CHECK(static_cast<int64_t>(encoded.parts.size()) == (n + m - 1) / m);
  }
  const RequestEncoder encoder(tokenizer(), BeginText::plain, 8);
  CHECK(encoder.encode_text(text("")).parts.empty());
  CHECK(encoder.encode_text(text("a")).parts[0].context == Ids{tokenizer().bos_id()});
}
