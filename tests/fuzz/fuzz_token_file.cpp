// Arbitrary bytes as token files: the first byte chooses the format, for Megatron the second how much is the index.
#include <algorithm>
#include <vector>

#include "data/token_file.h"
#include "fuzz.h"

namespace {
void read_all(const std::string& path, strand::TokenFormat format) {
  constexpr int64_t vocab = 1000;
  const strand::TokenFile file(path, format);
  strand::fuzz::claim(file.tokens() >= 0, "a file has no negative number of tokens");
  for (int64_t i = 0, before = 0; i <= file.documents(); ++i) {
    const int64_t begin = file.document_begin(i);
    strand::fuzz::claim(begin >= before && begin <= file.tokens(), "documents lie in order within the tokens");
    before = begin;
  }
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.read(0, file.tokens(), vocab, ids.data());
  for (const int32_t id : ids) strand::fuzz::claim(id >= 0 && id < vocab, "ids are within the vocabulary");
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  if (size < 2) return 0;
  const std::string_view bytes = fuzz::text_of(data + 2, size - 2);
  const std::string pair = fuzz::directory() + "/pair", single = fuzz::directory() + "/single.bin";
  constexpr TokenFormat formats[] = {TokenFormat::megatron, TokenFormat::automatic, TokenFormat::raw_u16,
                                     TokenFormat::raw_i32, TokenFormat::llmc};
  const TokenFormat format = formats[data[0] % 5];
  if (format != TokenFormat::megatron) {
    fuzz::put(single, bytes);
    return fuzz::attempt([&] { read_all(single, format); });
  }
  const size_t index = std::min<size_t>(bytes.size(), data[1]);
  fuzz::put(pair + ".idx", bytes.substr(0, index));
  fuzz::put(pair + ".bin", bytes.substr(index));
  return fuzz::attempt([&] { read_all(pair, format); });
}
