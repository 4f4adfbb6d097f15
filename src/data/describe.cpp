#include "data/describe.h"

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace strand {

namespace {
constexpr int64_t scanned_tokens = int64_t{1} << 20;
constexpr int64_t excerpt_tokens = 64;

// The excerpt on one line, whatever is in it.
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

std::string describe_documents(const TokenFile& file) {
  if (file.documents() < 0) return "documents: not recorded in this format\n";
  std::string text = fmt::format("documents: {}\n", file.documents());
  if (file.documents() > 0) {
    text += fmt::format("mean length: {:.1f} tokens\n",
                        static_cast<double>(file.tokens()) / static_cast<double>(file.documents()));
  }
  return text;
}

std::string describe_ids(const std::vector<int32_t>& ids, int64_t tokens) {
  const auto [least, most] = std::minmax_element(ids.begin(), ids.end());
  const auto count = static_cast<int64_t>(ids.size());
  return fmt::format("ids: {} to {} ({})\n", *least, *most,
                     count == tokens ? std::string("all tokens") : fmt::format("in the first {} tokens", count));
}

std::string describe_excerpt(const std::vector<int32_t>& ids, const Tokenizer& tokenizer) {
  const auto bad = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id >= tokenizer.vocab_size(); });
  if (bad != ids.end()) {
    return fmt::format("WRONG TOKENIZER: token {} has the id {}, {} knows only {}\n", bad - ids.begin(), *bad,
                       tokenizer.name(), tokenizer.vocab_size());
  }
  const size_t shown = std::min(ids.size(), static_cast<size_t>(excerpt_tokens));
  return fmt::format("begins: {}\n", one_line(tokenizer.decode(std::span(ids).first(shown))));
}
}  // namespace

std::string describe_token_file(const std::string& path, TokenFormat format, const Tokenizer* tokenizer) {
  const TokenFile file(path, format);
  std::string text = fmt::format("token file {}\nformat: {}, {} bytes a token ({})\ntokens: {}\n", file.path(),
                                 to_string(file.format()), size_of(file.type()), to_string(file.type()), file.tokens());
  text += describe_documents(file);
  if (file.tokens() == 0) return text;
  std::vector<int32_t> ids(static_cast<size_t>(std::min(file.tokens(), scanned_tokens)));
  file.read(0, static_cast<int64_t>(ids.size()), int64_t{1} << 31, ids.data());
  text += describe_ids(ids, file.tokens());
  if (tokenizer != nullptr) text += describe_excerpt(ids, *tokenizer);
  return text;
}

std::string describe_tokenizer(const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::load(path);
  int64_t bytes = 0, control = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes += tokenizer.is_byte(id) ? 1 : 0;
    control += tokenizer.is_control(id) ? 1 : 0;
  }
  std::string text = fmt::format("SentencePiece model {}\npieces: {} ({} bytes, {} control)\n", path,
                                 tokenizer.vocab_size(), bytes, control);
  text += fmt::format("unk {}, bos {}, eos {}, pad {}\n", tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id(),
                      tokenizer.pad_id());
  const std::string example = "The quick brown fox jumps over 13 lazy dogs.";
  text += fmt::format("\"{}\" ->", example);
  for (const int32_t id : tokenizer.encode(example)) text += fmt::format(" {}", tokenizer.piece(id));
  return text + "\n";
}

}  // namespace strand
