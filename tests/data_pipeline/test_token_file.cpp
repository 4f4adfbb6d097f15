// Token files made here byte by byte from the published layouts, whole and broken.
#include <memory>
#include <type_traits>
#include <vector>

#include "data/describe.h"
#include "data/fingerprint.h"
#include "data/sampler.h"
#include "data/token_file.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {

// An index as Megatron-LM writes it; every field can be falsified.
struct Index {
  std::string magic{"MMIDIDX\0\0", 9};
  uint64_t version = 1;
  uint8_t dtype = 8;
  uint64_t sequences = 3;
  uint64_t document_entries = 3;
  std::vector<int32_t> lengths = {2, 0, 3};
  std::vector<int64_t> pointers = {0, 4, 4};
  std::vector<int64_t> documents = {0, 1, 3};

  std::string bytes() const {
    Bytes b;
    b.text(magic).put(version).put(dtype).put(sequences).put(document_entries);
    for (const int32_t v : lengths) b.put(v);
    for (const int64_t v : pointers) b.put(v);
    for (const int64_t v : documents) b.put(v);
    return b.str();
  }
};

const std::string five_u16 = Bytes().put_all<uint16_t>({7, 8, 300, 1, 65000}).str();

std::vector<int32_t> read_all(const TokenFile& file, int64_t vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.read(0, file.tokens(), vocab_size, ids.data());
  return ids;
}

void check_bad_index(const Index& index, std::initializer_list<std::string> words, const std::string& data = five_u16) {
  const TemporaryDirectory dir;
  write_file(dir / "x.idx", index.bytes());
  write_file(dir / "x.bin", data);
  check_error([&] { TokenFile(dir / "x"); }, words);
}

std::string llmc(int32_t magic, int32_t version, int32_t count, const std::string& ids) {
  Bytes b;
  b.put(magic).put(version).put(count);
  b.text(std::string(1024 - 12, '\0')).text(ids);
  return b.str();
}

}  // namespace

TEST_CASE("a Megatron pair is read by prefix, .bin or .idx") {
  const TemporaryDirectory dir;
  write_file(dir / "x.idx", Index().bytes());
  write_file(dir / "x.bin", five_u16);
  for (const std::string name : {"x", "x.bin", "x.idx"}) {
    const TokenFile file(dir / name);
    CHECK(file.format() == TokenFormat::megatron);
    CHECK(file.type() == TokenType::u16);
    CHECK(file.path() == dir / "x.bin");
    CHECK(read_all(file, 65001) == std::vector<int32_t>{7, 8, 300, 1, 65000});
    REQUIRE(file.documents() == 2);
    CHECK(file.document_begin(0) == 0);
    CHECK(file.document_begin(1) == 2);
    CHECK(file.document_begin(2) == 5);
  }
  const TokenFile file(dir / "x");
  int32_t two[2];
  file.read(2, 2, 301, two);
  CHECK(two[0] == 300);
  CHECK(two[1] == 1);
}

TEST_CASE("a Megatron pair with modes has one byte a sequence more") {
  const TemporaryDirectory dir;
  write_file(dir / "x.idx", Index().bytes() + std::string(3, '\0'));
  write_file(dir / "x.bin", five_u16);
  CHECK(TokenFile(dir / "x").tokens() == 5);
  write_file(dir / "x.idx", Index().bytes() + std::string(2, '\0'));
  check_error([&] { TokenFile(dir / "x"); }, {"x.idx", "3 sequences"});
}

TEST_CASE("every integer type of a Megatron index is read") {
  const auto check = [](uint8_t code, auto zero) {
    using T = decltype(zero);
    const TemporaryDirectory dir;
    Index index;
    index.dtype = code;
    index.pointers = {0, 2 * sizeof(T), 2 * sizeof(T)};
    write_file(dir / "x.idx", index.bytes());
    write_file(dir / "x.bin", Bytes().put_all<T>({7, 8, 9, 1, 100}).str());
    CHECK(read_all(TokenFile(dir / "x"), 101) == std::vector<int32_t>{7, 8, 9, 1, 100});
    if (std::is_signed_v<T>) {
      write_file(dir / "x.bin", Bytes().put_all<T>({7, 8, 9, static_cast<T>(-2), 100}).str());
      const TokenFile file(dir / "x");
      check_error([&] { read_all(file, 101); }, {"x.bin", "token 3", "-2"});
    }
  };
  check(1, uint8_t{});
  check(2, int8_t{});
  check(3, int16_t{});
  check(4, int32_t{});
  check(5, int64_t{});
  check(8, uint16_t{});
}

TEST_CASE("an id past the vocabulary names file and token") {
  const TemporaryDirectory dir;
  write_file(dir / "x.bin", five_u16);
  const TokenFile file(dir / "x.bin", TokenFormat::raw_u16);
  int32_t ids[5];
  file.read(0, 4, 301, ids);
  check_error([&] { file.read(0, 4, 300, ids); }, {"x.bin", "token 2", "300"});
  check_error([&] { file.read(3, 2, 65000, ids); }, {"x.bin", "token 4", "65000"});
  // An id past int32 must not wrap into the vocabulary.
  Index wide;
  wide.dtype = 5;
  wide.pointers = {0, 16, 16};
  write_file(dir / "y.idx", wide.bytes());
  write_file(dir / "y.bin", Bytes().put_all<int64_t>({0, 1, (int64_t{1} << 32) + 1, 2, 3}).str());
  const TokenFile y(dir / "y");
  check_error([&] { y.read(0, 5, 100, ids); }, {"y.bin", "token 2", "4294967297"});
}

TEST_CASE("windows outside the file are refused") {
  const TemporaryDirectory dir;
  write_file(dir / "x.bin", five_u16);
  const TokenFile file(dir / "x.bin", TokenFormat::raw_u16);
  int32_t ids[8];
  check_error([&] { file.read(3, 3, 65536, ids); }, {"x.bin"});
  check_error([&] { file.read(-1, 2, 65536, ids); }, {"x.bin"});
  check_error([&] { file.read(1, INT64_MAX, 65536, ids); }, {"x.bin"});
}

TEST_CASE("a lying Megatron index is refused with the byte that lies") {
  const auto broken = [](auto change) {
    Index index;
    change(index);
    return index;
  };
  check_bad_index(broken([](Index& i) { i.magic[0] = 'X'; }), {"x.idx", "byte 0"});
  check_bad_index(broken([](Index& i) { i.version = 2; }), {"x.idx", "version 2", "byte 9"});
  for (const uint8_t code : {0, 6, 7, 9, 255}) {
    check_bad_index(broken([&](Index& i) { i.dtype = code; }), {"x.idx", "dtype", "byte 17"});
  }
  for (const uint64_t lie : {uint64_t{1} << 60, uint64_t{1} << 61, UINT64_MAX, UINT64_MAX / 12 + 1}) {
    check_bad_index(broken([&](Index& i) { i.sequences = lie; }), {"x.idx", "byte 18"});
    check_bad_index(broken([&](Index& i) { i.document_entries = lie; }), {"x.idx", "byte 26"});
  }
  check_bad_index(broken([](Index& i) { i.document_entries = 0; }), {"x.idx", "byte 26"});
  check_bad_index(broken([](Index& i) { i.sequences = 4; }), {"x.idx"});
  check_bad_index(broken([](Index& i) { i.document_entries = 2; }), {"x.idx"});
  check_bad_index(broken([](Index& i) { i.lengths[1] = -1; }), {"x.idx", "negative", "byte 38"});
  check_bad_index(broken([](Index& i) { i.lengths[2] = INT32_MAX; }), {"x.idx", "byte 42"});
  check_bad_index(broken([](Index& i) { i.pointers[1] = 2; }), {"x.idx", "sequence 1", "byte 54"});
  check_bad_index(broken([](Index& i) { i.pointers[2] = int64_t{1} << 60; }), {"x.idx", "sequence 2", "byte 62"});
  check_bad_index(broken([](Index& i) { i.pointers[0] = -4; }), {"x.idx", "sequence 0"});
  check_bad_index(broken([](Index& i) { i.documents[0] = 1; }), {"x.idx", "byte 70"});
  check_bad_index(broken([](Index& i) { i.documents[1] = 4; }), {"x.idx", "byte 78"});
  check_bad_index(broken([](Index& i) { i.documents[1] = -1; }), {"x.idx", "byte 78"});
  check_bad_index(broken([](Index& i) { i.documents[2] = 2; }), {"x.idx", "byte 86"});
  check_bad_index(Index(), {"x.idx", "x.bin"}, five_u16 + "ab");
  check_bad_index(Index(), {"x.idx", "x.bin"}, five_u16.substr(0, 8));
}

TEST_CASE("a Megatron index cut off at any byte is refused") {
  const TemporaryDirectory dir;
  const std::string whole = Index().bytes();
  write_file(dir / "x.bin", five_u16);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    write_file(dir / "x.idx", whole.substr(0, bytes));
    CHECK_THROWS_AS(TokenFile(dir / "x"), Error);
  }
}

TEST_CASE("llm.c files of both versions are read") {
  const TemporaryDirectory dir;
  write_file(dir / "gpt2.bin", llmc(20240520, 1, 5, five_u16));
  const TokenFile gpt2(dir / "gpt2.bin");
  CHECK(gpt2.format() == TokenFormat::llmc);
  CHECK(gpt2.documents() == -1);
  CHECK(read_all(gpt2, 65001) == std::vector<int32_t>{7, 8, 300, 1, 65000});

  write_file(dir / "llama3.bin", llmc(20240801, 7, 2, Bytes().put_all<uint32_t>({128000, 5}).str()));
  const TokenFile llama3(dir / "llama3.bin");
  CHECK(read_all(llama3, 128001) == std::vector<int32_t>{128000, 5});
  write_file(dir / "huge.bin", llmc(20240801, 7, 1, Bytes().put<uint32_t>(0xFFFFFFFFu).str()));
  const TokenFile huge(dir / "huge.bin");
  check_error([&] { read_all(huge, int64_t{1} << 40); }, {"huge.bin", "token 0", "4294967295"});
}

TEST_CASE("broken llm.c files are refused") {
  const TemporaryDirectory dir;
  const auto check = [&](const std::string& bytes, std::initializer_list<std::string> words) {
    write_file(dir / "x.bin", bytes);
    check_error([&] { TokenFile(dir / "x.bin", TokenFormat::llmc); }, words);
  };
  check(llmc(20240520, 1, 5, five_u16).substr(0, 1023), {"x.bin", "1024"});
  check(llmc(20240520, 1, 5, five_u16).substr(0, 1033), {"x.bin", "byte 8"});
  check(llmc(20240520, 1, 4, five_u16), {"x.bin", "byte 8"});
  check(llmc(20240520, 1, -5, five_u16), {"x.bin", "-5"});
  check(llmc(20240520, 1, INT32_MAX, five_u16), {"x.bin", "2147483647"});
  check(llmc(20240520, 7, 5, five_u16), {"x.bin", "version 7"});
  check(llmc(20240522, 1, 5, five_u16), {"x.bin", "20240522"});
}

TEST_CASE("raw files are read as the type the user names, and only then") {
  const TemporaryDirectory dir;
  write_file(dir / "x.bin", five_u16);
  CHECK(read_all(TokenFile(dir / "x.bin", TokenFormat::raw_u16), 65536).size() == 5);
  check_error([&] { TokenFile(dir / "x.bin", TokenFormat::raw_i32); }, {"x.bin", "10 bytes", "i32"});
  check_error([&] { TokenFile(dir / "x.bin"); }, {"x.bin", "raw_u16"});
  write_file(dir / "odd.bin", "abc");
  check_error([&] { TokenFile(dir / "odd.bin", TokenFormat::raw_u16); }, {"odd.bin", "3 bytes"});
  write_file(dir / "empty.bin", "");
  CHECK(TokenFile(dir / "empty.bin", TokenFormat::raw_u16).tokens() == 0);
}

TEST_CASE("what is not there or not a file is refused") {
  const TemporaryDirectory dir;
  check_error([&] { TokenFile(dir / "none"); }, {"none", "none.idx"});
  check_error([&] { TokenFile(dir / "none", TokenFormat::raw_u16); }, {"none", "No such file"});
  write_file(dir / "lonely.idx", Index().bytes());
  check_error([&] { TokenFile(dir / "lonely"); }, {"lonely.bin", "No such file"});
  check_error([&] { TokenFile(dir.path(), TokenFormat::raw_u16); }, {"not a regular file"});
  check_error([] { parse_token_format("megatrom"); }, {"megatrom", "megatron"});
}

TEST_CASE("a token file describes itself") {
  const TemporaryDirectory dir;
  write_file(dir / "x.idx", Index().bytes());
  write_file(dir / "x.bin", five_u16);
  const std::string text = describe_token_file(dir / "x");
  for (const std::string word : {"megatron", "u16", "tokens: 5", "documents: 2", "1 to 65000"}) {
    CHECK_THAT(text, Catch::Contains(word));
  }
}

TEST_CASE("a description of a large file looks at all of it, in blocks") {
  const TemporaryDirectory dir;
  const auto described = [&](int64_t tokens, int64_t place, uint16_t id) {
    write_file(dir / "a.bin", "");
    std::filesystem::resize_file(dir / "a.bin", static_cast<uintmax_t>(2 * tokens));  // zeros that take no space
    std::fstream file(dir / "a.bin", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(2 * place);
    file.write(reinterpret_cast<const char*>(&id), sizeof(id));
    file.close();
    return describe_token_file(dir / "a.bin", TokenFormat::raw_u16);
  };
  constexpr int64_t whole = int64_t{1} << 24, large = 5 * whole + 12345;
  CHECK_THAT(described(whole, whole - 1, 999), Catch::Contains("ids: 0 to 999 (all tokens)"));
  CHECK_THAT(described(whole, whole / 2 + 1, 999), Catch::Contains("ids: 0 to 999 (all tokens)"));
  const std::string spread = "ids: 0 to 999 (in 16777216 tokens spread evenly over the file)";
  CHECK_THAT(described(large, 0, 999), Catch::Contains(spread));
  CHECK_THAT(described(large, large - 1, 999), Catch::Contains(spread));
  // One place in five is looked at: 20 neighbours at distances of a block hold one that is.
  int found = 0;
  for (int64_t i = 0; i < 20; ++i) {
    found += described(large, large / 2 + i * (int64_t{1} << 14), 999).find("to 999") != std::string::npos ? 1 : 0;
  }
  CHECK(found >= 3);
  CHECK(found <= 5);
}

// ---- Files larger than 4 GiB: holes take no space on the disk -----------------------------------------------------

namespace {

constexpr uint64_t four_gib = uint64_t{1} << 32;

/// A file of so many bytes, zeros but for what put() writes.
class SparseFile {
 public:
  SparseFile(const std::string& path, uint64_t bytes) : path_(path) {
    write_file(path, "");
    std::filesystem::resize_file(path, bytes);
  }
  template <typename T>
  void put(uint64_t byte, T value) {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(byte));
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
    REQUIRE(file.good());
  }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE("ids below, at and above 4 GiB of a raw file are the ones that are there") {
  const TemporaryDirectory dir;
  constexpr uint64_t bytes = 2 * four_gib + 4096;
  SparseFile sparse(dir / "x.bin", bytes);
  sparse.put<uint16_t>(0, 11);
  sparse.put<uint16_t>(four_gib - 2, 22);
  sparse.put<uint16_t>(four_gib, 33);
  sparse.put<uint16_t>(2 * four_gib - 2, 44);
  sparse.put<uint16_t>(2 * four_gib, 55);
  sparse.put<uint16_t>(bytes - 2, 66);
  const TokenFile file(dir / "x.bin", TokenFormat::raw_u16);
  REQUIRE(file.tokens() == static_cast<int64_t>(bytes / 2));
  const auto around = [&](uint64_t byte) {  // one id before it, and the one that begins there
    std::vector<int32_t> ids(2);
    file.read(static_cast<int64_t>(byte / 2) - 1, 2, 100, ids.data());
    return ids;
  };
  CHECK(around(2) == std::vector<int32_t>{11, 0});
  CHECK(around(four_gib) == std::vector<int32_t>{22, 33});
  CHECK(around(2 * four_gib) == std::vector<int32_t>{44, 55});
  CHECK(around(bytes - 2) == std::vector<int32_t>{0, 66});
  // The token that an error names lies beyond 2^32 tokens of four bytes, too.
  int32_t id = 0;
  check_error([&] { file.read(static_cast<int64_t>(four_gib), 1, 50, &id); }, {"x.bin", "token 4294967296", "55"});
}

TEST_CASE("windows of a sampler, the fingerprint and the description reach beyond 4 GiB") {
  const TemporaryDirectory dir;
  constexpr int64_t sequence = 1000, windows = static_cast<int64_t>(2 * four_gib) / sequence;
  constexpr int64_t tokens = windows * sequence + 1;
  SparseFile sparse(dir / "x.bin", static_cast<uint64_t>(4 * tokens));
  const auto file = [&] { return std::make_shared<const TokenFile>(dir / "x.bin", TokenFormat::raw_i32); };
  const std::string before = fingerprint(*file());
  sparse.put<int32_t>(static_cast<uint64_t>(4 * (tokens - 1)), 77);
  const std::string after = fingerprint(*file());
  CHECK(before.starts_with(std::to_string(tokens) + " ids of i32"));
  CHECK(after != before);
  sparse.put<int32_t>(static_cast<uint64_t>(4 * (windows - 1) * sequence), 88);
  const Sampler sampler({{file(), 1.0}}, sequence, 100, 1);
  REQUIRE(sampler.windows() == windows);
  std::vector<int32_t> ids(sequence + 1);
  sampler.window(windows - 1, ids.data());
  CHECK(ids.front() == 88);
  CHECK(ids.back() == 77);
  CHECK_THAT(describe_token_file(dir / "x.bin", TokenFormat::raw_i32), Catch::Contains("to 88 (in"));
}

TEST_CASE("the largest files of llm.c, whose count has 32 bits, are read to their end") {
  const TemporaryDirectory dir;
  constexpr uint64_t tokens = INT32_MAX;
  const auto check = [&](int32_t magic, int32_t version, auto last) {
    SparseFile sparse(dir / "x.bin", 1024 + tokens * sizeof last);
    sparse.put(0, magic);
    sparse.put(4, version);
    sparse.put(8, static_cast<int32_t>(tokens));
    sparse.put(1024 + (tokens - 1) * sizeof last, last);
    const TokenFile file(dir / "x.bin");
    REQUIRE(file.tokens() == INT32_MAX);
    std::vector<int32_t> ids(2);
    file.read(INT32_MAX - 2, 2, 100, ids.data());
    CHECK(ids == std::vector<int32_t>{0, static_cast<int32_t>(last)});
  };
  check(20240520, 1, uint16_t{88});
  check(20240801, 7, uint32_t{99});
}

TEST_CASE("documents of a Megatron pair begin beyond 4 GiB") {
  const TemporaryDirectory dir;
  constexpr int32_t length = 1 << 30;  // ids of four bytes: 4 GiB a sequence
  Index index;
  index.dtype = 4;
  index.lengths = {length, length, 3};
  index.pointers = {0, int64_t{4} * length, int64_t{8} * length};
  index.documents = {0, 2, 3};
  write_file(dir / "x.idx", index.bytes());
  SparseFile sparse(dir / "x.bin", 2 * four_gib + 12);
  sparse.put<int32_t>(2 * four_gib, 5);
  const TokenFile file(dir / "x");
  REQUIRE(file.documents() == 2);
  CHECK(file.document_begin(1) == int64_t{2} * length);
  int32_t id = 0;
  file.read(file.document_begin(1), 1, 6, &id);
  CHECK(id == 5);
  index.pointers[2] -= int64_t{1} << 32;  // cut to 32 bits it would look the same
  write_file(dir / "x.idx", index.bytes());
  check_error([&] { TokenFile(dir / "x"); }, {"x.idx", "sequence 2 is said to begin at byte 4294967296"});
}

TEST_CASE("a file that becomes shorter while it is open is an error where it is missing, and nowhere else") {
  const TemporaryDirectory dir;
  write_file(dir / "x.bin", std::string(3 * 4096, '\0'));
  const TokenFile file(dir / "x.bin", TokenFormat::raw_u16);
  std::filesystem::resize_file(dir / "x.bin", 5000);
  std::vector<int32_t> ids(100);
  file.read(2400, 100, 10, ids.data());
  check_error([&] { file.read(2401, 100, 10, ids.data()); },
              {"x.bin", "has become shorter", "it had 12288 bytes", "byte 5000"});
  check_error([&] { file.read(6000, 100, 10, ids.data()); }, {"x.bin", "has become shorter"});
  check_error([&] { fingerprint(file); }, {"x.bin", "has become shorter"});
}
