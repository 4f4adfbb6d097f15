#include "data/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/git_lfs.h"
#include "core/mapped_file.h"
#include "data/bpe/bpe_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr uint64_t max_file_bytes = uint64_t{1} << 28;  // real ones have a few MB

std::string read_tokenizer_file(const std::string& path) {
  const MappedFile file(path);
  require(file.size() <= max_file_bytes, "{} has {} bytes: too large for a tokenizer", path, file.size());
  std::string bytes(reinterpret_cast<const char*>(file.data()), file.size());
  refuse_lfs_pointer(bytes, path);
  return bytes;
}

/// A tokenizer.json begins with an object. No SentencePiece model begins so: its first byte, a newline, is followed by
/// a length and another newline.
bool is_json(std::string_view bytes) {
  const size_t begin = bytes.find_first_not_of(" \t\r\n");
  return begin != std::string_view::npos && bytes[begin] == '{';
}
}  // namespace

std::unique_ptr<const Tokenizer> Tokenizer::load(const std::string& path) {
  std::string bytes = read_tokenizer_file(path);
  if (!is_json(bytes)) return from_files({{sentencepiece_file, std::move(bytes)}}, path);
  NamedFiles files{{tokenizer_json_file, std::move(bytes)}};
  const std::string config = (fs::path(path).parent_path() / tokenizer_config_file).string();
  if (fs::exists(config)) files.emplace(tokenizer_config_file, read_tokenizer_file(config));
  return from_files(files, path);
}

std::unique_ptr<const Tokenizer> Tokenizer::from_files(const NamedFiles& files, const std::string& name) {
  if (files.contains(tokenizer_json_file)) return std::make_unique<BpeTokenizer>(files, name);
  require(files.contains(sentencepiece_file), "{}: neither a {} nor a {}", name, sentencepiece_file,
          tokenizer_json_file);
  return std::make_unique<SentencePieceTokenizer>(files, name);
}

size_t Tokenizer::first_block(std::string_view text) const {
  return text.size() > block_bytes ? std::min(find_cut(text, block_bytes), text.size()) : text.size();
}

size_t Tokenizer::longest_block(std::string_view text) const {
  size_t longest = 0;
  while (!text.empty()) {
    const size_t length = first_block(text);
    longest = std::max(longest, length);
    text.remove_prefix(length);
  }
  return longest;
}

void Tokenizer::encode_blocks(const Block& whole, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const {
  for (Block rest = whole; !rest.text.empty(); rest.position = TextPosition::continuation) {
    Block block = rest;
    block.text = rest.text.substr(0, first_block(rest.text));
    encode_block(block, ids, spans);
    rest.text.remove_prefix(block.text.size());
    rest.offset += block.text.size();
  }
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position) const {
  encode_blocks({text, 0, position}, ids, nullptr);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::vector<TokenSpan> Tokenizer::encode_with_spans(std::string_view text) const {
  std::vector<int32_t> ids;
  std::vector<TokenSpan> spans;
  encode_blocks({text, 0, TextPosition::start}, ids, &spans);
  return spans;
}

void Tokenizer::check_id(int32_t id) const {
  require(id >= 0 && id < vocab_size(), "{}: id {} is outside the vocabulary of {}", name_, id, vocab_size());
}

}  // namespace strand
