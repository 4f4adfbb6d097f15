// The writer against the published layout of a Megatron pair, byte for byte.
#include <vector>

#include "data/output_file.h"
#include "data/token_writer.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {
void write_two_documents(const std::string& prefix, int64_t vocab_size) {
  TokenWriter writer(prefix, vocab_size);
  const std::vector<int32_t> first = {1, 2}, second = {3}, third = {4, 5};
  writer.append(first);
  writer.end_document();
  writer.append(second);
  writer.append(third);
  writer.end_document();
  writer.seal();
  writer.publish();
}
}  // namespace

TEST_CASE("the pair has Megatron's bytes") {
  const TemporaryDirectory dir;
  write_two_documents(dir / "x", 65499);
  CHECK(read_file(dir / "x.bin") == Bytes().put_all<uint16_t>({1, 2, 3, 4, 5}).str());
  Bytes index;
  index.text({"MMIDIDX\0\0", 9}).put<uint64_t>(1).put<uint8_t>(8).put<uint64_t>(2).put<uint64_t>(3);
  index.put_all<int32_t>({2, 3}).put_all<int64_t>({0, 4}).put_all<int64_t>({0, 1, 2});
  CHECK(read_file(dir / "x.idx") == index.str());
  CHECK(dir.entries() == 2);
}

TEST_CASE("a vocabulary of 65500 needs int32") {
  const TemporaryDirectory dir;
  write_two_documents(dir / "x", 65500);
  CHECK(read_file(dir / "x.bin") == Bytes().put_all<int32_t>({1, 2, 3, 4, 5}).str());
  CHECK(read_file(dir / "x.idx")[17] == 4);
}

TEST_CASE("many documents come back as they were written") {
  // More than the 2^16 lengths that are read back at once, and more than the writer's buffer of 1 MiB.
  const TemporaryDirectory dir;
  constexpr int64_t documents = 70000;
  const auto length = [](int64_t d) { return d % 37; };
  TokenWriter writer(dir / "x", 50000);
  std::vector<int32_t> ids;
  for (int64_t d = 0; d < documents; ++d) {
    ids.assign(static_cast<size_t>(length(d)), static_cast<int32_t>(d % 50000));
    writer.append(ids);
    writer.end_document();
  }
  writer.seal();
  writer.publish();

  const TokenFile file(dir / "x");
  REQUIRE(file.documents() == documents);
  int64_t begin = 0;
  bool same = true;
  for (int64_t d = 0; d < documents; ++d) {
    same &= file.document_begin(d) == begin;
    ids.resize(static_cast<size_t>(length(d)));
    file.read(begin, length(d), 50000, ids.data());
    for (const int32_t id : ids) same &= id == d % 50000;
    begin += length(d);
  }
  CHECK(same);
  CHECK(file.tokens() == begin);
}

TEST_CASE("as many documents as lengths are read back at once, one less, one more, and many more") {
  const TemporaryDirectory dir;
  constexpr int64_t limit = TokenWriter::lengths_at_once;
  for (const int64_t documents : {limit - 1, limit, limit + 1, limit * 5 / 2}) {
    const std::vector<int32_t> ids = {1, 2, 3};
    TokenWriter writer(dir / "x", 100);
    for (int64_t d = 0; d < documents; ++d) {
      writer.append(std::span(ids).first(static_cast<size_t>(1 + d % 3)));
      writer.end_document();
    }
    writer.seal();
    writer.publish();
    const TokenFile file(dir / "x");
    REQUIRE(file.documents() == documents);
    bool same = true;
    for (int64_t d = 0; d < documents; ++d) same &= file.document_begin(d) == d / 3 * 6 + d % 3 * (d % 3 + 1) / 2;
    CHECK(same);
  }
}

TEST_CASE("a document longer than a sequence may be becomes several, and comes back as one") {
  const TemporaryDirectory dir;
  TokenWriter writer(dir / "x", 100, 3);
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int64_t> lengths = {2, 3, 4, 8};
  for (const int64_t length : lengths) {
    writer.append(std::span(ids).first(static_cast<size_t>(length / 2)));  // whatever the pieces are
    writer.append(std::span(ids).subspan(static_cast<size_t>(length / 2), static_cast<size_t>(length - length / 2)));
    writer.end_document();
  }
  writer.seal();
  writer.publish();
  CHECK(writer.documents() == 4);
  Bytes index;
  index.text({"MMIDIDX\0\0", 9}).put<uint64_t>(1).put<uint8_t>(8).put<uint64_t>(7).put<uint64_t>(5);
  index.put_all<int32_t>({2, 3, 3, 1, 3, 3, 2}).put_all<int64_t>({0, 4, 10, 16, 18, 24, 30});
  index.put_all<int64_t>({0, 1, 2, 4, 7});
  CHECK(read_file(dir / "x.idx") == index.str());
  const TokenFile file(dir / "x");
  REQUIRE(file.documents() == 4);
  for (int64_t d = 0, begin = 0; d < 4; begin += lengths[static_cast<size_t>(d++)]) {
    CHECK(file.document_begin(d) == begin);
    std::vector<int32_t> read(static_cast<size_t>(lengths[static_cast<size_t>(d)]));
    file.read(begin, static_cast<int64_t>(read.size()), 100, read.data());
    CHECK(read == std::vector<int32_t>(ids.begin(), ids.begin() + lengths[static_cast<size_t>(d)]));
  }
}

TEST_CASE("bytes around the buffer of an output file arrive, in pieces of every size, overwritten and read back") {
  const TemporaryDirectory dir;
  constexpr size_t limit = OutputFile::buffer_bytes;
  for (const size_t bytes : {limit - 1, limit, limit + 1, limit * 5 / 2}) {
    for (const size_t piece : {size_t{1000}, limit - 1, limit, limit + 1}) {
      std::string text(bytes, ' ');
      for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('a' + i * 7 % 26 + i / 100000 % 3);
      OutputFile file(dir / "file");
      for (size_t at = 0; at < bytes; at += piece) file.write(std::string_view(text).substr(at, piece));
      std::string back(10, ' ');
      file.read_at(bytes - 10, back.data(), back.size());
      CHECK(back == text.substr(bytes - 10));
      file.write_at(5, "HEADER", 6);
      text.replace(5, 6, "HEADER");
      file.write("tail");
      text += "tail";
      file.seal();
      file.publish();
      const bool same = read_file(dir / "file") == text;
      CHECK(same);
    }
  }
}

TEST_CASE("nothing is left under any name when a writer is given up") {
  const TemporaryDirectory dir;
  {
    TokenWriter writer(dir / "sub/x", 100);
    const std::vector<int32_t> ids = {1, 2, 3};
    writer.append(ids);
    writer.end_document();
    CHECK(!std::filesystem::exists(dir / "sub/x.bin"));
    writer.seal();
    CHECK(!std::filesystem::exists(dir / "sub/x.bin"));
    CHECK(!std::filesystem::exists(dir / "sub/x.idx"));
  }
  CHECK(dir.entries() == 1);  // the directory itself
}

TEST_CASE("an older pair stays whole until the new one is published") {
  const TemporaryDirectory dir;
  write_two_documents(dir / "x", 100);
  const std::string before = read_file(dir / "x.idx");
  {
    TokenWriter writer(dir / "x", 100);
    check_error([&] { writer.seal(); }, {"no document"});
  }
  CHECK(read_file(dir / "x.idx") == before);
  CHECK(TokenFile(dir / "x").tokens() == 5);
}

TEST_CASE("what cannot be written is refused") {
  const TemporaryDirectory dir;
  TokenWriter writer(dir / "x", 100);
  const std::vector<int32_t> large = {5, 100}, negative = {-1};
  check_error([&] { writer.append(large); }, {"id 100", "vocabulary of 100"});
  check_error([&] { writer.append(negative); }, {"id -1"});
  write_file(dir / "file", "x");
  check_error([&] { TokenWriter(dir / "file/x", 100); }, {"file"});
  check_error([&] { TokenWriter(dir / "y", 0); }, {"vocabulary of 0"});
}
