// Arbitrary bytes as a tokenizer.json and, behind the first byte 0, as a text for it: what is read encodes texts, and
// gives them back.
#include <algorithm>

#include "data/tokenizer.h"
#include "data/utf8.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  const std::string_view bytes = fuzz::text_of(data, size);
  const size_t cut = std::min(bytes.find('\0'), bytes.size());
  const std::string text = with_replacements(bytes.substr(std::min(cut + 1, bytes.size())));
  fuzz::claim(first_invalid_utf8(text) == text.size(), "what is ill-formed is replaced");
  return fuzz::attempt([&] {
    const auto tokenizer = Tokenizer::from_files({{tokenizer_json_file, std::string(bytes.substr(0, cut))}}, "fuzz");
    const std::vector<TokenSpan> spans = tokenizer->encode_with_spans(text);
    const std::vector<int32_t> ids = tokenizer->encode(text);
    fuzz::claim(ids.size() == spans.size(), "there is a place for each token");
    for (size_t i = 0; i < ids.size(); ++i) {
      fuzz::claim(ids[i] == spans[i].id, "the ids are the same with places and without");
      fuzz::claim(spans[i].bytes.begin <= spans[i].bytes.end && spans[i].bytes.end <= text.size(),
                  "places are in the text");
    }
    const std::string decoded = tokenizer->decode(ids);
    fuzz::claim(first_invalid_utf8(decoded) == decoded.size(), "ids decode to UTF-8");
  });
}
