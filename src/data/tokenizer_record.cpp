#include "data/tokenizer_record.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/file_io.h"
#include "core/sha256.h"
#include "core/strict_json.h"
#include "data/fingerprint.h"
#include "data/megatron_index.h"

namespace strand {

namespace {
constexpr const char* format_name = "strand-tokenized-1";
constexpr uint64_t max_record_bytes = uint64_t{1} << 20;
constexpr uint64_t max_pieces = uint64_t{1} << 31;

/// A hash of the pieces of the first `count` ids. The size before each piece keeps apart what would otherwise run
/// together.
std::string sha256_of_pieces(const Tokenizer& tokenizer, int64_t count) {
  std::string spelled;
  for (int32_t id = 0; id < count; ++id) {
    const std::string& piece = tokenizer.piece(id);
    spelled += fmt::format("{}:{}", piece.size(), piece);
  }
  return sha256(spelled);
}

std::string sha256_of_file(const Tokenizer& tokenizer) {
  const NamedFiles& files = tokenizer.files();
  const auto json = files.find(tokenizer_json_file);
  return sha256(json != files.end() ? json->second : files.at(sentencepiece_file));
}

std::string read_sha256(const nlohmann::json& object, const char* key, const std::string& where) {
  const std::string digits = json_string(object, key, where);
  const bool valid = digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  require(valid, "{}: \"{}\" is not a SHA-256", where, key);
  return digits;
}

TokenizerIdentity read_record(const std::string& path, const TokenFile& file) {
  const nlohmann::json record = parse_strict_json(read_file(path, max_record_bytes), path);
  const std::string format = json_string(record, "format", path);
  require(format == format_name, "{}: format \"{}\" is not known, only \"{}\" is", path, format, format_name);
  const std::string theirs = json_string(record, "ids", path), here = fingerprint(file);
  require(theirs == here, "{} belongs to other ids ({}) than those in {} ({})", path, theirs, file.path(), here);
  const nlohmann::json& tokenizer = json_object(record, "tokenizer", path);
  const uint64_t pieces = json_unsigned(tokenizer, "pieces", path);
  require(pieces > 0 && pieces <= max_pieces, "{}: a tokenizer of {} pieces", path, pieces);
  return {.file = json_string(tokenizer, "file", path),
          .kind = json_string(tokenizer, "kind", path),
          .sha256 = read_sha256(tokenizer, "sha256", path),
          .pieces = static_cast<int64_t>(pieces),
          .pieces_sha256 = read_sha256(tokenizer, "pieces_sha256", path)};
}

/// The tokenizer with which the files of a group are compared.
class Expected {
 public:
  explicit Expected(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {
    if (tokenizer != nullptr) identity_ = identity_of(*tokenizer);
  }

  TokenizerMatch compare(const TokenizerIdentity& made_with) {
    if (!identity_) identity_ = made_with;
    return match(made_with, *identity_, tokenizer_);
  }
  std::string name() const { return to_string(*identity_); }
  const std::string& file() const { return identity_->file; }

 private:
  const Tokenizer* tokenizer_;
  std::optional<TokenizerIdentity> identity_;
};

std::string remark_on_unnamed(const std::vector<std::string>& paths) {
  const std::string verb = paths.size() == 1 ? "does" : fmt::format("and {} more do", paths.size() - 1);
  return fmt::format(
      "{} {} not name the tokenizer that made the ids (there is no {}), so whether it is the model's is not checked",
      paths[0], verb, record_path(paths[0]));
}
}  // namespace

TokenizerIdentity identity_of(const Tokenizer& tokenizer) {
  return {.file = tokenizer.name(),
          .kind = tokenizer.kind(),
          .sha256 = sha256_of_file(tokenizer),
          .pieces = tokenizer.vocab_size(),
          .pieces_sha256 = sha256_of_pieces(tokenizer, tokenizer.vocab_size())};
}

std::string to_string(const TokenizerIdentity& identity) {
  return fmt::format("{} ({}, {} pieces, SHA-256 {})", identity.file, identity.kind, identity.pieces, identity.sha256);
}

std::string record_path(const std::string& path) {
  return megatron::prefix_of(path) + ".tokenized";
}

std::string record_text(const TokenizerIdentity& made_with, const std::string& fingerprint) {
  using nlohmann::ordered_json;
  const ordered_json record = {{"format", format_name},
                               {"ids", fingerprint},
                               {"tokenizer",
                                {{"file", made_with.file},
                                 {"kind", made_with.kind},
                                 {"sha256", made_with.sha256},
                                 {"pieces", made_with.pieces},
                                 {"pieces_sha256", made_with.pieces_sha256}}}};
  return record.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

TokenOrigin origin_of(const TokenFile& file) {
  const std::string path = record_path(file.path());
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  try {
    return {read_record(path, file), ""};
  } catch (const Error& error) {
    return {std::nullopt, error.what()};
  }
}

TokenizerMatch match(const TokenizerIdentity& made_with, const TokenizerIdentity& read_in, const Tokenizer* tokenizer) {
  if (made_with.sha256 == read_in.sha256) return TokenizerMatch::same;
  if (made_with.pieces_sha256 == read_in.pieces_sha256) return TokenizerMatch::same_pieces;
  const bool extended = tokenizer != nullptr && made_with.pieces < read_in.pieces &&
                        made_with.pieces_sha256 == sha256_of_pieces(*tokenizer, made_with.pieces);
  return extended ? TokenizerMatch::same_pieces : TokenizerMatch::other;
}

std::vector<std::string> check_tokenizers(const std::vector<std::shared_ptr<const TokenFile>>& files,
                                          const Tokenizer* tokenizer) {
  std::vector<std::string> remarks, unnamed;
  Expected expected(tokenizer);
  for (const auto& file : files) {
    const TokenOrigin origin = origin_of(*file);
    if (!origin.remark.empty())
      remarks.push_back(fmt::format("which tokenizer made {} is not known: {}", file->path(), origin.remark));
    else if (!origin.tokenizer)
      unnamed.push_back(file->path());
    if (!origin.tokenizer) continue;
    const TokenizerMatch found = expected.compare(*origin.tokenizer);
    require(found != TokenizerMatch::other,
            "{} was made with the tokenizer {}, not with {}: its ids stand for other text. Tokenize the text again "
            "(strand tokenize --tokenizer {}), or use the tokenizer that made it; if you know that the ids are right, "
            "remove {}",
            file->path(), to_string(*origin.tokenizer), expected.name(), expected.file(), record_path(file->path()));
    if (found == TokenizerMatch::same_pieces)
      remarks.push_back(
          fmt::format("{} was made with the tokenizer {}. {} is another file, in which the ids stand for the same "
                      "pieces, but it may "
                      "split a text into other ones",
                      file->path(), to_string(*origin.tokenizer), expected.name()));
  }
  if (!unnamed.empty() && tokenizer != nullptr) remarks.push_back(remark_on_unnamed(unnamed));
  return remarks;
}

}  // namespace strand
