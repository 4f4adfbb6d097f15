#include "data/describe.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "data/tokenizer_record.h"

namespace strand {

namespace {
constexpr int64_t block_tokens = int64_t{1} << 14;
constexpr int64_t blocks = 1024;  // so all tokens of a file of up to 2^24 tokens are looked at
constexpr int64_t excerpt_tokens = 64;

std::string describe_documents(const TokenFile& file) {
  if (file.documents() < 0) return "documents: not recorded in this format\n";
  std::string text = fmt::format("documents: {}\n", file.documents());
  if (file.documents() > 0) {
    text += fmt::format("mean length: {:.1f} tokens\n",
                        static_cast<double>(file.tokens()) / static_cast<double>(file.documents()));
  }
  return text;
}

struct IdRange {
  int32_t least = INT32_MAX;
  int32_t most = 0;
  int64_t place_of_most = 0;  // the first token with that id
  int64_t looked_at = 0;      // tokens
};

// Looks at all ids. In a large file it looks at blocks at equal distances, the first and the last tokens among them.
IdRange range_of_ids(const TokenFile& file) {
  IdRange range;
  std::vector<int32_t> ids(static_cast<size_t>(block_tokens));
  const int64_t tokens = file.tokens();
  const bool whole = tokens <= blocks * block_tokens;
  const int64_t count = whole ? (tokens + block_tokens - 1) / block_tokens : blocks;
  for (int64_t block = 0; block < count; ++block) {
    const int64_t stride = whole ? block_tokens : (tokens - block_tokens) / (blocks - 1);
    const int64_t begin = !whole && block == blocks - 1 ? tokens - block_tokens : block * stride;
    const int64_t here = std::min(block_tokens, tokens - begin);
    file.read(begin, here, int64_t{1} << 31, ids.data());
    const auto [least, most] = std::minmax_element(ids.begin(), ids.begin() + here);
    range.least = std::min(range.least, *least);
    if (range.looked_at == 0 || *most > range.most) {
      range.most = *most;
      range.place_of_most = begin + (std::find(ids.begin(), ids.begin() + here, *most) - ids.begin());
    }
    range.looked_at += here;
  }
  return range;
}

std::string describe_ids(const IdRange& range, int64_t tokens) {
  return fmt::format("ids: {} to {} ({})\n", range.least, range.most,
                     range.looked_at == tokens
                         ? std::string("all tokens")
                         : fmt::format("in {} tokens spread evenly over the file", range.looked_at));
}

std::string describe_origin(const TokenFile& file, const TokenOrigin& origin) {
  if (origin.tokenizer) return fmt::format("made with the tokenizer: {}\n", one_line(to_string(*origin.tokenizer)));
  return fmt::format("made with the tokenizer: not recorded ({})\n",
                     origin.remark.empty() ? fmt::format("there is no {}", record_path(file.path())) : origin.remark);
}

std::string describe_excerpt(const TokenFile& file, const TokenOrigin& origin, const IdRange& range,
                             const Tokenizer& tokenizer) {
  const TokenizerIdentity read_in = identity_of(tokenizer);
  if (origin.tokenizer && match(*origin.tokenizer, read_in, &tokenizer) == TokenizerMatch::other)
    return fmt::format("WRONG TOKENIZER: {}\n", to_string(read_in));
  if (range.most >= tokenizer.vocab_size()) {
    return fmt::format("WRONG TOKENIZER: token {} has the id {}, {} knows only {}\n", range.place_of_most, range.most,
                       tokenizer.name(), tokenizer.vocab_size());
  }
  std::vector<int32_t> ids(static_cast<size_t>(std::min(file.tokens(), excerpt_tokens)));
  file.read(0, static_cast<int64_t>(ids.size()), tokenizer.vocab_size(), ids.data());
  return fmt::format("begins: {}\n", one_line(tokenizer.decode(ids)));
}
}  // namespace

std::string one_line(const std::string& text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n') {
      line += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      line += c;
    }
  }
  return line;
}

std::string describe_token_file(const std::string& path, TokenFormat format, const Tokenizer* tokenizer) {
  const TokenFile file(path, format);
  std::string text = fmt::format("token file {}\nformat: {}, {} bytes a token ({})\ntokens: {}\n", file.path(),
                                 to_string(file.format()), size_of(file.type()), to_string(file.type()), file.tokens());
  text += describe_documents(file);
  const TokenOrigin origin = origin_of(file);
  text += describe_origin(file, origin);
  if (file.tokens() == 0) return text;
  const IdRange range = range_of_ids(file);
  text += describe_ids(range, file.tokens());
  if (tokenizer != nullptr) text += describe_excerpt(file, origin, range, *tokenizer);
  return text;
}

std::string describe_tokenizer(const std::string& path) {
  const std::unique_ptr<const Tokenizer> loaded = Tokenizer::load(path);
  const Tokenizer& tokenizer = *loaded;
  int64_t bytes = 0, control = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes += tokenizer.is_byte(id) ? 1 : 0;
    control += tokenizer.is_control(id) ? 1 : 0;
  }
  std::string text = fmt::format("{} {}\npieces: {} ({} bytes, {} control)\n", tokenizer.kind(), path,
                                 tokenizer.vocab_size(), bytes, control);
  const SpecialTokens& special = tokenizer.special();
  text += fmt::format("unk {}, bos {}, eos {}, pad {}\n", special.unk, special.bos, special.eos, special.pad);
  const std::string example = "The quick brown fox jumps over 13 lazy dogs.";
  text += fmt::format("\"{}\" ->", example);
  for (const int32_t id : tokenizer.encode(example)) text += fmt::format(" {}", tokenizer.piece(id));
  return text + "\n";
}

}  // namespace strand
