#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "data/safe_cuts.h"
#include "data/sentencepiece_model.h"
#include "data/sentencepiece_reason.h"

namespace strand {

namespace {
std::string colon_reason(const std::string& status) {
  const std::string reason = sentencepiece_reason(status);
  return reason.empty() ? "" : ": " + reason;
}

using Processor = sentencepiece::SentencePieceProcessor;

std::unique_ptr<Processor> load_processor(std::string_view bytes, const std::string& name) {
  require(!bytes.empty(), "{} is empty, not a SentencePiece model", name);
  auto processor = std::make_unique<Processor>();
  const auto status = processor->LoadFromSerializedProto(absl::string_view(bytes.data(), bytes.size()));
  require(status.ok(), "{} is not a SentencePiece model{}", name, colon_reason(status.ToString()));
  require(processor->GetPieceSize() > 0, "{}: the model has no pieces", name);
  return processor;
}
}  // namespace

struct SentencePieceTokenizer::Impl {
  Impl(const std::string& model, const std::string& file)
      : name(file),
        bytes(model),
        processor(load_processor(bytes, name)),
        cuts(SentencePieceModel::parse(bytes, name)) {}

  const std::string& name;
  const std::string& bytes;
  std::unique_ptr<Processor> processor;
  SafeCuts cuts;

  /// The same model for parts that are continuations. It is made when the first of them comes.
  const Processor& for_later_parts() const {
    std::call_once(later_made_,
                   [this] { later_ = load_processor(with_text_ends(bytes, cuts.ends_of_later_part(), name), name); });
    return *later_;
  }

  void require_encoded(const sentencepiece::util::Status& status) const {
    require(status.ok(), "{}: cannot encode text: {}", name, sentencepiece_reason(status.ToString()));
  }

 private:
  mutable std::once_flag later_made_;
  mutable std::unique_ptr<Processor> later_;
};

SentencePieceTokenizer::SentencePieceTokenizer(const NamedFiles& files_of_model, const std::string& name_of_model)
    : Tokenizer({{sentencepiece_file, files_of_model.at(sentencepiece_file)}}, name_of_model),
      impl_(std::make_unique<Impl>(files().at(sentencepiece_file), name())) {
  const Processor& p = *impl_->processor;
  special_ = {.unk = p.unk_id(), .bos = p.bos_id(), .eos = p.eos_id(), .pad = p.pad_id()};
  special_.begin_with_bos = special_.bos >= 0;  // as models of this kind are trained
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

size_t SentencePieceTokenizer::find_cut(std::string_view text, size_t from) const {
  return impl_->cuts.find(text, from);
}

void SentencePieceTokenizer::encode_block(const Block& block, std::vector<int32_t>& ids,
                                          std::vector<TokenSpan>* spans) const {
  const Processor& with = block.position == TextPosition::start ? *impl_->processor : impl_->for_later_parts();
  const absl::string_view text(block.text.data(), block.text.size());
  if (spans == nullptr) {
    std::vector<int> found;
    impl_->require_encoded(with.Encode(text, &found));
    ids.insert(ids.end(), found.begin(), found.end());
    return;
  }
  const auto encoded = with.EncodeAsImmutableProto(text);
  for (size_t i = 0; i < encoded.pieces_size(); ++i) {
    const auto piece = encoded.pieces(static_cast<int>(i));
    const auto id = static_cast<int32_t>(piece.id());
    ids.push_back(id);
    spans->push_back({id, {block.offset + piece.begin(), block.offset + piece.end()}});
  }
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids) check_id(id);
  std::string text;
  const auto status = impl_->processor->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  require(status.ok(), "{}: cannot decode ids: {}", name(), sentencepiece_reason(status.ToString()));
  return text;
}

int64_t SentencePieceTokenizer::vocab_size() const {
  return impl_->processor->GetPieceSize();
}

const std::string& SentencePieceTokenizer::piece(int32_t id) const {
  check_id(id);
  return impl_->processor->IdToPiece(id);
}

bool SentencePieceTokenizer::is_byte(int32_t id) const {
  check_id(id);
  return impl_->processor->IsByte(id);
}

bool SentencePieceTokenizer::is_control(int32_t id) const {
  check_id(id);
  return impl_->processor->IsControl(id);
}

TokenizerDescription SentencePieceTokenizer::description() const {
  return SentencePieceModel::parse(impl_->bytes, name());
}

}  // namespace strand
