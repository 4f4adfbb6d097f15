#pragma once
// Which tokenizer made a token file. Ids mean nothing with another one, and the numbers that come of it look plausible.
// Megatron's files have no place for this, so `strand tokenize` writes a record beside them, PREFIX.tokenized:
//
//   {"format": "strand-tokenized-1",
//    "ids": "4000 ids of u16, XXH3 9c7f0e3b12ab44d1",
//    "tokenizer": {"file": "data/mine.model", "kind": "SentencePiece model", "sha256": "5f2c...",
//                  "pieces": 2000, "pieces_sha256": "81d0..."}}
//
// "ids" (fingerprint.h) ties the record to its data: where somebody has replaced the .bin and .idx alone, it no longer
// fits. A token file without a record (of another program, or moved without it) is read all the same.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/token_file.h"
#include "data/tokenizer.h"

namespace strand {

struct TokenizerIdentity {
  std::string file;           ///< its path, as it was given; for people
  std::string kind;           ///< "SentencePiece model"
  std::string sha256;         ///< of its file; of two files, of the tokenizer.json
  int64_t pieces = 0;         ///< how many
  std::string pieces_sha256;  ///< of the spellings of all pieces, in the order of their ids
};

TokenizerIdentity identity_of(const Tokenizer& tokenizer);

/// "data/mine.model (SentencePiece model, 2000 pieces, SHA-256 5f2c...)"
std::string to_string(const TokenizerIdentity& identity);

/// The path of the record of a token file, given its prefix or one of its files.
std::string record_path(const std::string& path);

/// What the record of ids with this fingerprint says.
std::string record_text(const TokenizerIdentity& made_with, const std::string& fingerprint);

struct TokenOrigin {
  std::optional<TokenizerIdentity> tokenizer;  ///< none: the file does not name one
  std::string remark;                          ///< why a record that is there is of no use; "" = there is none
};

/// Reads the record of a token file, if there is one, and at most 64 MiB of its ids. A record that is damaged or
/// belongs to other ids is no error, but a remark.
TokenOrigin origin_of(const TokenFile& file);

/// How the tokenizer in which ids are read stands to the one that made them.
enum class TokenizerMatch {
  same,         ///< the same bytes
  same_pieces,  ///< another file in which the ids stand for the same pieces (written anew, or with pieces added at the
                ///< end)
  other
};
/// `tokenizer` is the one that `read_in` identifies. Where it is null, pieces added at the end are not recognized.
TokenizerMatch match(const TokenizerIdentity& made_with, const TokenizerIdentity& read_in, const Tokenizer* tokenizer);

/// Checks that all files were made with `tokenizer`; where it is null, that those which name a tokenizer name the same
/// one. Throws Error that names both tokenizers and says what to do when a file was made with another. Returns remarks
/// for people: files that name no tokenizer (one remark for all of them, and none where `tokenizer` is null), records
/// that are of no use, tokenizers that have the same pieces in another file.
std::vector<std::string> check_tokenizers(const std::vector<std::shared_ptr<const TokenFile>>& files,
                                          const Tokenizer* tokenizer);

}  // namespace strand
