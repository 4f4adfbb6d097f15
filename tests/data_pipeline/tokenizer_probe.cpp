// What a tokenizer makes of texts, for scripts/tokenizer_parity.py.
//   tokenizer_probe TOKENIZER < TEXTS          a JSON string a line -> {"ids", "spans", "text"} a line, where "text" is
//                                              what the ids decode to
//   tokenizer_probe TOKENIZER --time < TEXTS   the megabytes of those texts that a core encodes a second
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/tokenizer.h"

namespace {
using namespace strand;

void print_encoding(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  nlohmann::json spans = nlohmann::json::array();
  std::vector<int32_t> ids_of_spans;
  for (const TokenSpan& span : tokenizer.encode_with_spans(text)) {
    ids_of_spans.push_back(span.id);
    spans.push_back({span.bytes.begin, span.bytes.end});
  }
  require(ids == ids_of_spans, "encode() and encode_with_spans() differ for {}", text);
  std::cout << nlohmann::json{{"ids", ids}, {"spans", spans}, {"text", tokenizer.decode(ids)}}.dump() << "\n";
}

void print_speed(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  uint64_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  double best = 0;
  std::vector<int32_t> ids;
  for (int repetition = 0; repetition < 5; ++repetition) {
    const std::clock_t start = std::clock();  // of this process: what else the machine does is not counted
    for (const std::string& text : texts) {
      ids.clear();
      tokenizer.encode(text, ids);
    }
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    best = std::max(best, static_cast<double>(bytes) / 1e6 / seconds);
  }
  std::cout << best << "\n";
}
}  // namespace

int main(int count, char** arguments) try {
  require(count == 2 || (count == 3 && std::string(arguments[2]) == "--time"), "one tokenizer, and perhaps --time");
  const std::unique_ptr<const Tokenizer> tokenizer = Tokenizer::load(arguments[1]);
  std::vector<std::string> texts;
  for (std::string line; std::getline(std::cin, line);) texts.push_back(nlohmann::json::parse(line).get<std::string>());
  if (count == 3) {
    print_speed(*tokenizer, texts);
    return 0;
  }
  for (const std::string& text : texts) print_encoding(*tokenizer, text);
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "tokenizer_probe: {}\n", e.what());
  return 1;
}
