#include "data/token_writer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"
#include "core/file_io.h"
#include "data/fingerprint.h"
#include "data/megatron_index.h"

namespace strand {

namespace {
constexpr int64_t block = TokenWriter::lengths_at_once;

template <typename T>
void put(OutputFile& file, T value) {
  file.write(&value, sizeof(T));
}

// The prefix, as readers of a pair understand it. A name that ends with a slash is refused, because its files would
// have hidden names.
std::string checked_prefix(const std::string& name) {
  std::string prefix = megatron::prefix_of(name);
  const std::string last = prefix.substr(prefix.rfind('/') + 1);
  require(!last.empty() && last != "." && last != "..",
          "{} is a directory, not the prefix of a .bin/.idx pair; {}train would be one", name,
          name.ends_with('/') || name.empty() ? name : name + "/");
  return prefix;
}

void remove_older(const std::string& path) {
  if (file_layer().unlink(path) == 0) {
    sync_directory(parent_directory(path));
  } else if (errno != ENOENT) {
    fail_errno("replace", path);
  }
}
}  // namespace

TokenWriter::TokenWriter(const std::string& name, int64_t vocab_size, int64_t max_sequence)
    : prefix_(checked_prefix(name)),
      vocab_size_(vocab_size),
      max_sequence_(max_sequence),
      type_(megatron_type_for(vocab_size)),
      data_(prefix_ + ".bin"),
      index_(prefix_ + ".idx") {
  require(vocab_size > 0 && vocab_size <= (int64_t{1} << 31), "{}: a vocabulary of {} ids cannot be written", prefix_,
          vocab_size);
  index_.write(megatron::magic, sizeof(megatron::magic));
  put<uint64_t>(index_, megatron::version);
  put<uint8_t>(index_, static_cast<uint8_t>(type_));
  put<uint64_t>(index_, 0);  // both counts are filled in by seal()
  put<uint64_t>(index_, 0);
}

TokenWriter::TokenWriter(const std::string& name, const Tokenizer& tokenizer)
    : TokenWriter(name, tokenizer.vocab_size()) {
  made_with_ = identity_of(tokenizer);
  record_.emplace(record_path(prefix_));
}

void TokenWriter::append(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    require(id >= 0 && id < vocab_size_, "{}: id {} (token {}) is outside the vocabulary of {}", data_.path(), id,
            tokens_, vocab_size_);
  }
  while (!ids.empty()) {
    if (length_ == max_sequence_) {
      continued_.push_back(sequences_);
      end_sequence();
    }
    const auto room = static_cast<size_t>(max_sequence_ - length_);
    const std::span<const int32_t> now = ids.first(std::min(room, ids.size()));
    if (type_ == TokenType::u16) {
      narrow_.assign(now.begin(), now.end());
      data_.write(narrow_.data(), narrow_.size() * sizeof(uint16_t));
    } else {
      data_.write(now.data(), now.size_bytes());
    }
    length_ += static_cast<int64_t>(now.size());
    tokens_ += static_cast<int64_t>(now.size());
    ids = ids.subspan(now.size());
  }
}

void TokenWriter::end_sequence() {
  put<int32_t>(index_, static_cast<int32_t>(length_));
  length_ = 0;
  ++sequences_;
}

void TokenWriter::end_document() {
  end_sequence();
  ++documents_;
}

void TokenWriter::seal() {
  require(length_ == 0, "{}: the last document was not ended", prefix_);
  require(documents_ > 0, "{}: there is no document to write", prefix_);
  const auto item = static_cast<int64_t>(size_of(type_));
  std::vector<int32_t> lengths;
  int64_t pointer = 0;
  for (int64_t first = 0; first < sequences_; first += block) {
    lengths.resize(static_cast<size_t>(std::min(block, sequences_ - first)));
    index_.read_at(megatron::lengths_offset + 4 * static_cast<uint64_t>(first), lengths.data(), lengths.size() * 4);
    for (const int32_t length : lengths) {
      put<int64_t>(index_, pointer);
      pointer += length * item;
    }
  }
  size_t next = 0;
  for (int64_t sequence = 0; sequence <= sequences_; ++sequence) {
    const bool inside = next < continued_.size() && sequence == continued_[next] + 1;
    if (inside) {
      ++next;
    } else {
      put<int64_t>(index_, sequence);
    }
  }
  const uint64_t counts[2] = {static_cast<uint64_t>(sequences_), static_cast<uint64_t>(documents_) + 1};
  index_.write_at(megatron::sequences_offset, counts, sizeof(counts));
  data_.seal();
  index_.seal();
  if (record_) write_record();
}

void TokenWriter::write_record() {
  const auto read = [this](uint64_t begin, std::span<std::byte> out) { data_.read_at(begin, out.data(), out.size()); };
  record_->write(record_text(*made_with_, fingerprint(tokens_, type_, read)));
  record_->seal();
}

void TokenWriter::publish() {
  // The older index is removed first, so that it never stands beside the new ids, not even after a power cut. So is the
  // older record.
  remove_older(index_.path());
  remove_older(record_path(prefix_));
  data_.publish();
  if (record_) record_->publish();
  index_.publish();
}

}  // namespace strand
