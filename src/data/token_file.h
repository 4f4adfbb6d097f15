#pragma once
// Token files, read only, behind one class: whatever the format, a token file is a row of integers somewhere in a file,
// and perhaps a list of where documents begin.
//
//   megatron          <prefix>.bin (ids back to back) and <prefix>.idx (dtype, lengths, documents); Megatron-LM's
//                     IndexedDataset
//   llmc              llm.c's .bin: 256 int32 of header, magic 20240520 version 1 (uint16 ids) or 20240801 version 7
//                     (uint32)
//   raw_u16, raw_i32  nanoGPT's .bin: ids and nothing else, so the user has to say how wide they are
//
// Every header field is checked against the size of the file before it is used; nothing is allocated from what a header
// claims. Errors name the file and the byte (in headers) or the token (in ids) that is wrong.
#include <cstdint>
#include <span>
#include <string>

#include "core/mapped_file.h"

namespace strand {

enum class TokenFormat { automatic, megatron, llmc, raw_u16, raw_i32 };

/// "auto", "megatron", "llmc", "raw_u16", "raw_i32"; throws Error for anything else.
TokenFormat parse_token_format(const std::string& name);
std::string to_string(TokenFormat format);

/// How one id is stored. The values are Megatron's dtype codes; u32 has none (llm.c's LLaMA-3 files).
enum class TokenType : uint8_t { u8 = 1, i8 = 2, i16 = 3, i32 = 4, i64 = 5, u16 = 8, u32 = 255 };
size_t size_of(TokenType type);  ///< bytes
std::string to_string(TokenType type);

/// Megatron's own rule for which type a vocabulary of `vocab_size` needs.
TokenType megatron_type_for(int64_t vocab_size);

class TokenFile {
 public:
  /// `path`: the prefix of a Megatron pair or either of its files, or a .bin of another format.
  /// `automatic` recognizes Megatron by its .idx and llm.c by its magic number. A raw file has to be named as such.
  explicit TokenFile(const std::string& path, TokenFormat format = TokenFormat::automatic);

  const std::string& path() const { return data_.path(); }  ///< of the file that holds the ids
  TokenFormat format() const { return format_; }
  TokenType type() const { return type_; }
  int64_t tokens() const { return tokens_; }

  /// Copies ids [begin, begin + count) to `out` [count]. Throws Error naming file and token when an id is negative or
  /// not below vocab_size, so that no embedding table is ever indexed with an id that was not checked. Throws Error,
  /// too, when the file has become shorter since it was opened or cannot be read; nothing ends the program.
  void read(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const;

  /// Copies bytes [begin, begin + out.size()) of the ids as they are stored: tokens() of type(), one after another.
  void read_stored(uint64_t begin, std::span<std::byte> out) const;

  /// Number of documents, or -1 where the format does not record them.
  int64_t documents() const { return documents_; }
  /// First token of document `document`; `documents()` gives tokens(). Only where documents() >= 0.
  int64_t document_begin(int64_t document) const;

 private:
  void open_megatron(const std::string& prefix);
  void open_llmc(const std::string& path);
  void open_raw(const std::string& path);

  TokenFormat format_;
  TokenType type_ = TokenType::u16;
  MappedFile data_;
  MappedFile index_;         // Megatron only
  uint64_t ids_offset_ = 0;  // byte of the first id in data_
  int64_t tokens_ = 0;
  int64_t sequences_ = 0;  // Megatron only
  int64_t documents_ = -1;
};

}  // namespace strand
