// Text files of every kind, whole, cut off and damaged. Compressed ones are made with zlib and zstd directly.
#include <zlib.h>
#include <zstd.h>

#include <vector>

#include "data/text_reader.h"
#include "data/utf8.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {

std::string gzip(const std::string& text) {
  z_stream stream = {};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const size_t bytes = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3);
  REQUIRE(!ZSTD_isError(bytes));
  out.resize(bytes);
  return out;
}

std::vector<Document> read_documents(const std::string& path, TextLimits limits = {}) {
  TextReader reader(path, limits);
  std::vector<Document> documents;
  Document document;
  while (reader.next(document)) documents.push_back(document);
  return documents;
}

std::vector<std::string> texts(const std::string& path, TextLimits limits = {}) {
  std::vector<std::string> result;
  for (const Document& document : read_documents(path, limits)) result.push_back(document.text);
  return result;
}

using Texts = std::vector<std::string>;

// Longer than every buffer on the way, and not too easy to compress.
std::string long_text(size_t lines) {
  std::string text;
  for (size_t i = 0; i < lines; ++i) text += "line " + std::to_string(i * 2654435761u) + " of many\n";
  return text;
}

}  // namespace

TEST_CASE("a .txt is one document, as it is") {
  const TemporaryDirectory dir;
  write_file(dir / "a.txt", "one\r\n two \n");
  CHECK(texts(dir / "a.txt") == Texts{"one\r\n two \n"});
  write_file(dir / "bom.txt", "\xEF\xBB\xBFone");
  CHECK(texts(dir / "bom.txt") == Texts{"one"});
  write_file(dir / "empty.txt", "");
  CHECK(texts(dir / "empty.txt") == Texts{""});
}

TEST_CASE("a .jsonl is a document a line") {
  const TemporaryDirectory dir;
  write_file(
      dir / "a.jsonl",
      "{\"text\": \"one\\ntwo \\u00e9 \\ud83d\\ude00\", \"url\": {\"x\": [1]}}\n\n  \r\n{\"id\":3,\"text\":\"\"}\r\n"
      "{\"text\":\"no newline at the end\"}");
  const Texts expected = {"one\ntwo \u00e9 \U0001F600", "", "no newline at the end"};
  CHECK(texts(dir / "a.jsonl") == expected);
  write_file(dir / "c4.json.gz", gzip(read_file(dir / "a.jsonl")));
  CHECK(texts(dir / "c4.json.gz") == expected);
  for (const Document& document : read_documents(dir / "a.jsonl")) CHECK((document.begins && document.ends));
}

TEST_CASE("several gzip members and zstd frames are one text") {
  const TemporaryDirectory dir;
  const std::string text = long_text(40000);  // 1 MB
  const std::string first = text.substr(0, 300001), second = text.substr(300001);
  write_file(dir / "a.txt.gz", gzip(first) + gzip("") + gzip(second));
  write_file(dir / "a.txt.zst", zstd(first) + zstd("") + zstd(second));
  const TextLimits whole{.max_part = size_t{1} << 24};
  CHECK(texts(dir / "a.txt.gz", whole) == Texts{text});
  CHECK(texts(dir / "a.txt.zst", whole) == Texts{text});
}

TEST_CASE("data that expands a thousandfold is streamed") {
  const TemporaryDirectory dir;
  const std::string text(size_t{20} << 20, 'a');
  write_file(dir / "a.txt.gz", gzip(text));
  write_file(dir / "a.txt.zst", zstd(text));
  const TextLimits limits{.max_part = size_t{1} << 20, .max_line = size_t{1} << 20};
  check_error([&] { texts(dir / "a.txt.gz", limits); }, {"a.txt.gz", "longer than"});
  check_error([&] { texts(dir / "a.txt.zst", limits); }, {"a.txt.zst", "longer than"});
  CHECK(texts(dir / "a.txt.zst", {.max_part = size_t{32} << 20}) == Texts{text});
}

TEST_CASE("compressed files cut off anywhere are refused") {
  const TemporaryDirectory dir;
  const std::string two_gz = gzip("one document\n") + gzip(long_text(20));
  const std::string two_zst = zstd("one document\n") + zstd(long_text(20));
  const size_t gz_member = gzip("one document\n").size(), zst_frame = zstd("one document\n").size();
  for (size_t bytes = 0; bytes < two_gz.size(); ++bytes) {
    if (bytes == gz_member) continue;  // a whole member is a whole file
    write_file(dir / "a.txt.gz", two_gz.substr(0, bytes));
    check_error([&] { texts(dir / "a.txt.gz"); }, {"a.txt.gz", "breaks off", "byte " + std::to_string(bytes)});
  }
  for (size_t bytes = 0; bytes < two_zst.size(); ++bytes) {
    if (bytes == zst_frame) continue;
    write_file(dir / "a.txt.zst", two_zst.substr(0, bytes));
    check_error([&] { texts(dir / "a.txt.zst"); }, {"a.txt.zst", "breaks off", "byte " + std::to_string(bytes)});
  }
}

TEST_CASE("damaged and mislabelled compressed files are refused") {
  const TemporaryDirectory dir;
  std::string bytes = gzip(long_text(100));
  bytes[bytes.size() - 6] = static_cast<char>(bytes[bytes.size() - 6] ^ 1);  // the checksum
  write_file(dir / "a.txt.gz", bytes);
  check_error([&] { texts(dir / "a.txt.gz"); }, {"a.txt.gz", "bad gzip data"});
  write_file(dir / "b.txt.gz", gzip("text") + "garbage after the member");
  check_error([&] { texts(dir / "b.txt.gz"); }, {"b.txt.gz", "bad gzip data"});
  write_file(dir / "c.txt.gz", "plain text under the wrong name");
  check_error([&] { texts(dir / "c.txt.gz"); }, {"c.txt.gz", "bad gzip data"});
  write_file(dir / "d.txt.zst", "plain text under the wrong name");
  check_error([&] { texts(dir / "d.txt.zst"); }, {"d.txt.zst", "bad zstd data"});
}

TEST_CASE("a long .txt comes in parts cut before newlines") {
  const TemporaryDirectory dir;
  const std::string text = long_text(50000) + "\u00e9\n\nlast line without newline";
  write_file(dir / "a.txt", text);
  const std::vector<Document> parts = read_documents(dir / "a.txt", {.max_part = 100000, .max_line = 1000});
  REQUIRE(parts.size() > 5);
  std::string joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    joined += parts[i].text;
    CHECK(parts[i].begins == (i == 0));
    CHECK(parts[i].ends == (i + 1 == parts.size()));
    if (i > 0) CHECK(parts[i].text[0] == '\n');
    CHECK(parts[i].text.size() < 102000);
    CHECK(!parts[i].text.empty());
  }
  CHECK(joined == text);
  // Every line a part of its own: newlines in a row must not stop the cutting.
  write_file(dir / "b.txt", "\n\n\na\nb");
  const Texts tiny = texts(dir / "b.txt", {.max_part = 1, .max_line = 10});
  CHECK(tiny == Texts{"\n", "\n", "\na", "\nb"});
}

TEST_CASE("lines past the limit are refused, not read") {
  const TemporaryDirectory dir;
  write_file(dir / "a.txt", "short\n" + std::string(300000, 'x'));
  check_error([&] { texts(dir / "a.txt", {.max_part = 100, .max_line = 1000}); }, {"a.txt", "longer than 1000"});
  write_file(dir / "a.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"" + std::string(300000, 'x') + "\"}\n");
  check_error([&] { texts(dir / "a.jsonl", {.max_line = 1000}); }, {"a.jsonl", "line 2", "longer than 1000"});
}

TEST_CASE("text that is not UTF-8 is refused with its place") {
  const TemporaryDirectory dir;
  write_file(dir / "latin1.txt", "caf\xE9 au lait");
  check_error([&] { texts(dir / "latin1.txt"); }, {"latin1.txt", "UTF-8", "byte 3"});
  write_file(dir / "late.txt.gz", gzip(long_text(10000) + "\xFF"));
  check_error([&] { texts(dir / "late.txt.gz", {.max_part = 5000}); },
              {"late.txt.gz", "UTF-8", "byte " + std::to_string(long_text(10000).size())});
  write_file(dir / "a.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"\xE9\"}\n");
  check_error([&] { texts(dir / "a.jsonl"); }, {"a.jsonl", "line 2", "UTF-8", "byte 9"});
  write_file(dir / "surrogate.jsonl", "{\"text\":\"\\ud800\"}\n");
  check_error([&] { texts(dir / "surrogate.jsonl"); }, {"surrogate.jsonl", "line 1"});
}

TEST_CASE("UTF-8 is what the Unicode standard says") {
  const auto valid = [](std::string_view text) { return first_invalid_utf8(text) == text.size(); };
  for (const std::string_view good : {"", "plain ascii", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                                      "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    CHECK(valid(good));
  }
  for (const std::string_view bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE1\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xF1\x80\x80"}) {
    CHECK(first_invalid_utf8(bad) == 0);
    CHECK(first_invalid_utf8("12345678 12345" + std::string(bad) + "tail that follows") == 14);
  }
}

TEST_CASE("bad lines of a .jsonl are named") {
  const TemporaryDirectory dir;
  const auto check = [&](const std::string& line, std::initializer_list<std::string> words) {
    write_file(dir / "a.jsonl", "{\"text\":\"ok\"}\n\n" + line + "\n{\"text\":\"ok\"}\n");
    check_error([&] { texts(dir / "a.jsonl"); }, words);
  };
  check("{\"text\":\"cut", {"a.jsonl", "line 3", "JSON"});
  const auto quote = [&] { texts(dir / "a.jsonl"); };
  check("{\"text\":\"" + std::string(100000, 'x') + "\\q\"}", {"a.jsonl", "line 3", "JSON"});
  CHECK_THROWS_WITH(quote(), !Catch::Contains("xxxxxxxxxx"));  // the message does not quote the line
  check("{\"text\":\"two\"} {\"text\":\"objects\"}", {"a.jsonl", "line 3", "JSON"});
  check("{\"body\":\"x\"}", {"a.jsonl", "line 3", "no \"text\""});
  check("{\"text\":17}", {"a.jsonl", "line 3", "number"});
  check("[\"text\"]", {"a.jsonl", "line 3", "array"});
  check(std::string(100000, '['), {"a.jsonl", "line 3", "JSON"});
}

TEST_CASE("directories are read in sorted order, hidden files and others left out") {
  const TemporaryDirectory dir;
  for (const std::string name :
       {"d/b.txt", "d/a/z.jsonl.gz", "d/c.txt.zst", "d/.hidden.txt", "d/.git/x.txt", "d/readme.md"}) {
    write_file(dir / name, "x");
  }
  write_file(dir / "first.txt", "x");
  const TextFiles files = list_text_files({dir / "first.txt", dir / "d"});
  CHECK(files.paths == Texts{dir / "first.txt", dir / "d/a/z.jsonl.gz", dir / "d/b.txt", dir / "d/c.txt.zst"});
  CHECK(files.ignored == Texts{dir / "d/readme.md"});
  check_error([&] { list_text_files({dir / "none"}); }, {"none"});
  check_error([&] { list_text_files({dir / "d/readme.md"}); }, {"readme.md", ".jsonl"});
  check_error([&] { TextReader(dir / "d/readme.md"); }, {"readme.md", ".jsonl"});
  check_error([&] { TextReader(dir / "none.txt"); }, {"none.txt", "No such file"});
  std::filesystem::create_directories(dir / "empty");
  check_error([&] { list_text_files({dir / "empty"}); }, {"no text file"});
}
