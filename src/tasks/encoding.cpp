#include "tasks/encoding.h"

#include <algorithm>

#include "core/error.h"
#include "tasks/text_rules.h"

namespace strand {

namespace {
using Ids = std::vector<int32_t>;

std::ptrdiff_t distance_of(size_t count) {
  return static_cast<std::ptrdiff_t>(count);
}
}  // namespace

RequestEncoder::RequestEncoder(const Tokenizer& tokenizer, BeginText begin, int64_t max_length)
    : tokenizer_(tokenizer),
      begin_(begin),
      max_length_(static_cast<size_t>(max_length)),
      prefix_(tokenizer.bos_id() >= 0 ? tokenizer.bos_id() : tokenizer.eos_id()) {
  require(max_length > 0, "requests of at most {} tokens", max_length);
  require(begin == BeginText::plain || tokenizer.bos_id() >= 0, "{} has no BOS, so no text can begin with it",
          tokenizer.name());
  require(prefix_ >= 0, "{} has neither BOS nor EOS, and a text with nothing before it needs one of them",
          tokenizer.name());
}

/// A text that begins with the letters of the BOS piece has that id, and gets no second one.
Ids RequestEncoder::ids_of(std::string_view text, BeginText begin) const {
  const int32_t bos = tokenizer_.bos_id();
  Ids ids;
  const bool written_out = bos >= 0 && text.starts_with(tokenizer_.piece(bos));
  if (written_out) text.remove_prefix(tokenizer_.piece(bos).size());
  if (written_out || begin == BeginText::with_bos) ids.push_back(bos);
  tokenizer_.encode(text, ids);
  return ids;
}

EncodedRequest RequestEncoder::fit(TokenRequest request, const TextRequest& text) const {
  require(!request.continuation.empty(), "{}: the continuation has no token", text.name);
  require(request.continuation.size() <= max_length_,
          "{}: the continuation has {} tokens, but the model reads at most {}", text.name, request.continuation.size(),
          max_length_);
  const size_t most = max_length_ + 1 - request.continuation.size();  // the last token is not read
  const bool cut = request.context.size() > most;
  if (cut) request.context.erase(request.context.begin(), request.context.end() - distance_of(most));
  return {{std::move(request)}, cut};
}

std::vector<EncodedRequest> RequestEncoder::encode(std::span<const TextRequest> requests) const {
  std::vector<EncodedRequest> encoded;
  if (requests.empty()) return encoded;
  const std::string& given = requests[0].context;
  const std::string_view context = strip_right(given);
  const std::string moved = given.substr(context.size());
  const Ids before = given.empty() ? Ids{} : ids_of(context, begin_);
  for (const TextRequest& request : requests) {
    require(request.context == given, "{}: requests with different contexts are encoded together", request.name);
    TokenRequest tokens{before, {}};
    if (given.empty()) {
      Ids ids = ids_of(request.continuation, BeginText::plain);
      if (ids.empty() || ids[0] != prefix_) ids.insert(ids.begin(), prefix_);
      tokens = {{prefix_}, Ids(ids.begin() + 1, ids.end())};
    } else {
      const Ids whole = ids_of(std::string(context) + moved + request.continuation, begin_);
      if (whole.size() > before.size())
        tokens.continuation.assign(whole.begin() + distance_of(before.size()), whole.end());
      if (tokens.context.empty()) tokens.context = {prefix_};  // a context of nothing but white space, without BOS
    }
    encoded.push_back(fit(std::move(tokens), request));
  }
  return encoded;
}

EncodedRequest RequestEncoder::encode_text(const TextRequest& request) const {
  EncodedRequest encoded;
  Ids ids = ids_of(request.continuation, BeginText::plain);
  ids.insert(ids.begin(), prefix_);
  const size_t tokens = ids.size() - 1;
  for (size_t scored = 0; scored < tokens;) {
    const size_t end = std::min(scored + max_length_, tokens);
    // Ids [begin, end] of the prefix and the text: the last max_length + 1 of them; from the scored-th on they are
    // scored.
    const size_t begin = end > max_length_ ? end - max_length_ : 0;
    encoded.parts.push_back({Ids(ids.begin() + distance_of(begin), ids.begin() + distance_of(scored + 1)),
                             Ids(ids.begin() + distance_of(scored + 1), ids.begin() + distance_of(end + 1))});
    scored = end;
  }
  return encoded;
}

}  // namespace strand
