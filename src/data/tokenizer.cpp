#include "data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "core/error.h"
#include "core/mapped_file.h"

namespace strand {

namespace {
constexpr uint64_t max_model_bytes = uint64_t{1} << 28;  // real ones have a few MB
constexpr size_t block_bytes = size_t{1} << 14;  // small enough for SentencePiece's working set to stay in cache
}  // namespace

struct Tokenizer::Impl {
  std::string name;
  std::string bytes;
  sentencepiece::SentencePieceProcessor processor;
  int32_t prefix = -1;  // the id of "▁" when cutting before newlines is exact, else -1

  std::vector<int> encode(std::string_view text) const {
    std::vector<int> ids;
    const auto status = processor.Encode(absl::string_view(text.data(), text.size()), &ids);
    require(status.ok(), "{}: cannot encode text: {}", name, status.ToString());
    return ids;
  }

  // With identity normalization and no piece that holds a newline, nothing merges across one, so a text may be cut
  // before any newline; each later part then only carries an extra "▁" in front, which is removed. Spaces must survive
  // at both sides of the cut, which the probe shows.
  void find_prefix() {
    for (int id = 0; id < processor.GetPieceSize(); ++id) {
      if (processor.IdToPiece(id).find('\n') != std::string::npos) return;
    }
    const std::vector<int> probe = encode("\n ");
    const bool exact = probe.size() == 3 && probe[0] == probe[2] && processor.IsByte(probe[1]) &&
                       processor.IdToPiece(probe[0]) == "\u2581";
    if (exact) prefix = probe[0];
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::load(const std::string& path) {
  const MappedFile file(path);
  require(file.size() <= max_model_bytes, "{} has {} bytes: too large for a SentencePiece model", path, file.size());
  return from_bytes({reinterpret_cast<const char*>(file.data()), file.size()}, path);
}

Tokenizer Tokenizer::from_bytes(std::string_view bytes, const std::string& name) {
  require(!bytes.empty(), "{} is empty, not a SentencePiece model", name);
  auto impl = std::make_unique<Impl>();
  impl->name = name;
  impl->bytes = bytes;
  const auto status = impl->processor.LoadFromSerializedProto(absl::string_view(bytes.data(), bytes.size()));
  require(status.ok(), "{} is not a SentencePiece model: {}", name, status.ToString());
  require(impl->processor.GetPieceSize() > 0, "{}: the model has no pieces", name);
  impl->find_prefix();
  return Tokenizer(std::move(impl));
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position) const {
  const bool may_cut = impl_->prefix >= 0;
  bool continues = position == TextPosition::continuation;
  while (!text.empty()) {
    size_t length = text.size();
    if (may_cut && length > block_bytes) length = std::min(text.find('\n', block_bytes), length);
    const std::vector<int> block = impl_->encode(text.substr(0, length));
    const bool drop = continues && may_cut && !block.empty() && block[0] == impl_->prefix && text[0] == '\n';
    ids.insert(ids.end(), block.begin() + (drop ? 1 : 0), block.end());
    text.remove_prefix(length);
    continues = true;
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids) {
    require(id >= 0 && id < vocab_size(), "{}: id {} is outside the vocabulary of {}", impl_->name, id, vocab_size());
  }
  std::string text;
  const auto status = impl_->processor.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  require(status.ok(), "{}: cannot decode ids: {}", impl_->name, status.ToString());
  return text;
}

int64_t Tokenizer::vocab_size() const {
  return impl_->processor.GetPieceSize();
}
int32_t Tokenizer::unk_id() const {
  return impl_->processor.unk_id();
}
int32_t Tokenizer::bos_id() const {
  return impl_->processor.bos_id();
}
int32_t Tokenizer::eos_id() const {
  return impl_->processor.eos_id();
}
int32_t Tokenizer::pad_id() const {
  return impl_->processor.pad_id();
}

namespace {
void check_id(int32_t id, const Tokenizer& tokenizer) {
  require(id >= 0 && id < tokenizer.vocab_size(), "{}: id {} is outside the vocabulary of {}", tokenizer.name(), id,
          tokenizer.vocab_size());
}
}  // namespace

const std::string& Tokenizer::piece(int32_t id) const {
  check_id(id, *this);
  return impl_->processor.IdToPiece(id);
}

bool Tokenizer::is_byte(int32_t id) const {
  check_id(id, *this);
  return impl_->processor.IsByte(id);
}

bool Tokenizer::is_control(int32_t id) const {
  check_id(id, *this);
  return impl_->processor.IsControl(id);
}

const std::string& Tokenizer::bytes() const {
  return impl_->bytes;
}
const std::string& Tokenizer::name() const {
  return impl_->name;
}

}  // namespace strand
