#include "data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "core/mapped_file.h"
#include "data/safe_cuts.h"
#include "data/sentencepiece_model.h"
#include "data/sentencepiece_reason.h"

namespace strand {

namespace {
constexpr uint64_t max_model_bytes = uint64_t{1} << 28;  // real ones have a few MB
}  // namespace

namespace {
std::string colon_reason(const std::string& status) {
  const std::string reason = sentencepiece_reason(status);
  return reason.empty() ? "" : ": " + reason;
}

using Processor = sentencepiece::SentencePieceProcessor;

std::unique_ptr<Processor> load_processor(std::string_view bytes, const std::string& name) {
  auto processor = std::make_unique<Processor>();
  const auto status = processor->LoadFromSerializedProto(absl::string_view(bytes.data(), bytes.size()));
  require(status.ok(), "{} is not a SentencePiece model{}", name, colon_reason(status.ToString()));
  require(processor->GetPieceSize() > 0, "{}: the model has no pieces", name);
  return processor;
}
}  // namespace

struct Tokenizer::Impl {
  Impl(std::string_view model, std::string file)
      : name(std::move(file)),
        bytes(model),
        processor(load_processor(bytes, name)),
        cuts(SentencePieceModel::parse(bytes, name)) {}

  std::string name;
  std::string bytes;
  std::unique_ptr<Processor> processor;
  SafeCuts cuts;

  /// The number of bytes at the begin of `text` that are encoded at once.
  size_t first_block(std::string_view text) const;

  void encode(const Processor& with, std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int> found;
    const auto status = with.Encode(absl::string_view(text.data(), text.size()), &found);
    require(status.ok(), "{}: cannot encode text: {}", name, sentencepiece_reason(status.ToString()));
    ids.insert(ids.end(), found.begin(), found.end());
  }

  /// The same model for parts that are continuations. It is made when the first of them comes.
  const Processor& for_later_parts() const {
    std::call_once(later_made_,
                   [this] { later_ = load_processor(with_text_ends(bytes, cuts.ends_of_later_part(), name), name); });
    return *later_;
  }

 private:
  mutable std::once_flag later_made_;
  mutable std::unique_ptr<Processor> later_;
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
  return Tokenizer(std::make_unique<Impl>(bytes, name));
}

size_t Tokenizer::find_cut(std::string_view text, size_t from) const {
  return impl_->cuts.find(text, from);
}

size_t Tokenizer::Impl::first_block(std::string_view text) const {
  return text.size() > Tokenizer::block_bytes ? std::min(cuts.find(text, Tokenizer::block_bytes), text.size())
                                              : text.size();
}

size_t Tokenizer::longest_block(std::string_view text) const {
  size_t longest = 0;
  while (!text.empty()) {
    const size_t length = impl_->first_block(text);
    longest = std::max(longest, length);
    text.remove_prefix(length);
  }
  return longest;
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position) const {
  bool begins = position == TextPosition::start;
  while (!text.empty()) {
    const size_t length = impl_->first_block(text);
    impl_->encode(begins ? *impl_->processor : impl_->for_later_parts(), text.substr(0, length), ids);
    text.remove_prefix(length);
    begins = false;
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
  const auto status = impl_->processor->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  require(status.ok(), "{}: cannot decode ids: {}", impl_->name, sentencepiece_reason(status.ToString()));
  return text;
}

int64_t Tokenizer::vocab_size() const {
  return impl_->processor->GetPieceSize();
}
int32_t Tokenizer::unk_id() const {
  return impl_->processor->unk_id();
}
int32_t Tokenizer::bos_id() const {
  return impl_->processor->bos_id();
}
int32_t Tokenizer::eos_id() const {
  return impl_->processor->eos_id();
}
int32_t Tokenizer::pad_id() const {
  return impl_->processor->pad_id();
}

namespace {
void check_id(int32_t id, const Tokenizer& tokenizer) {
  require(id >= 0 && id < tokenizer.vocab_size(), "{}: id {} is outside the vocabulary of {}", tokenizer.name(), id,
          tokenizer.vocab_size());
}
}  // namespace

const std::string& Tokenizer::piece(int32_t id) const {
  check_id(id, *this);
  return impl_->processor->IdToPiece(id);
}

bool Tokenizer::is_byte(int32_t id) const {
  check_id(id, *this);
  return impl_->processor->IsByte(id);
}

bool Tokenizer::is_control(int32_t id) const {
  check_id(id, *this);
  return impl_->processor->IsControl(id);
}

const std::string& Tokenizer::bytes() const {
  return impl_->bytes;
}
const std::string& Tokenizer::name() const {
  return impl_->name;
}

}  // namespace strand
