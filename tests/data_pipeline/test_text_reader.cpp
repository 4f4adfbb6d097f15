// Text files of every kind, whole, cut off and damaged. Compressed ones are made with zlib and zstd directly.
#include <zlib.h>
#include <zstd.h>

#include <random>
#include <vector>

#include "data/utf8.h"
#include "documents.h"

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
  const TextOptions whole{.max_part = size_t{1} << 24};
  CHECK(texts(dir / "a.txt.gz", whole) == Texts{text});
  CHECK(texts(dir / "a.txt.zst", whole) == Texts{text});
}

TEST_CASE("data that expands a thousandfold is streamed") {
  const TemporaryDirectory dir;
  const std::string text(size_t{20} << 20, 'a');
  write_file(dir / "a.txt.gz", gzip(text));
  write_file(dir / "a.txt.zst", zstd(text));
  const TextOptions options{.max_part = size_t{1} << 20, .max_document = size_t{2} << 20};
  check_error([&] { texts(dir / "a.txt.gz", options); }, {"a.txt.gz", "held in memory", "--max-document"});
  check_error([&] { texts(dir / "a.txt.zst", options); }, {"a.txt.zst", "held in memory", "--split-documents"});
  CHECK(texts(dir / "a.txt.zst") == Texts{text});
}

TEST_CASE("zero bytes behind a gzip member are passed over") {
  const TemporaryDirectory dir;
  const std::string zeros(300000, '\0');  // more than the input buffer
  write_file(dir / "a.txt.gz", gzip("one ") + zeros);
  CHECK(texts(dir / "a.txt.gz") == Texts{"one "});
  write_file(dir / "a.txt.gz", gzip("one ") + std::string(3, '\0') + gzip("two") + zeros);
  CHECK(texts(dir / "a.txt.gz") == Texts{"one two"});
  write_file(dir / "a.txt.gz", gzip("one ") + std::string(3, '\0') + "x");
  check_error([&] { texts(dir / "a.txt.gz"); }, {"a.txt.gz", "something else follows"});
  write_file(dir / "a.txt.gz", zeros);
  check_error([&] { texts(dir / "a.txt.gz"); }, {"a.txt.gz", "bad gzip data"});
}

namespace {
// A frame as `zstd --long=N` writes it from a pipe: its header asks for a window of 2^N bytes.
std::string zstd_with_window(const std::string& text, int window_log) {
  // RFC 8878: magic number, descriptor (no single segment, no content size), window descriptor, one raw last block.
  std::string frame = "\x28\xB5\x2F\xFD";
  frame += '\0';
  frame += static_cast<char>((window_log - 10) << 3);
  const auto header = static_cast<uint32_t>(text.size() << 3 | 1);
  for (int i = 0; i < 3; ++i) frame += static_cast<char>(header >> (8 * i));
  return frame + text;
}
}  // namespace

TEST_CASE("zstd frames may ask for a window of up to 2 GiB, and be skippable") {
  const TemporaryDirectory dir;
  for (const int window_log : {10, 27, 28, 30, 31}) {
    write_file(dir / "a.txt.zst", zstd_with_window("text", window_log));
    CHECK(texts(dir / "a.txt.zst") == Texts{"text"});
  }
  write_file(dir / "a.txt.zst", zstd_with_window("text", 32));
  check_error([&] { texts(dir / "a.txt.zst"); }, {"a.txt.zst", "window", "2 GiB"});
  const std::string skippable = std::string("\x50\x2A\x4D\x18\x05\0\0\0", 8) + "index";
  write_file(dir / "a.txt.zst", skippable + zstd("one ") + skippable + zstd_with_window("two", 28) + skippable);
  CHECK(texts(dir / "a.txt.zst") == Texts{"one two"});
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
  const std::string end_of_member = "byte " + std::to_string(gzip("text").size());
  check_error([&] { texts(dir / "b.txt.gz"); }, {"b.txt.gz", "bad gzip data", end_of_member, "something else follows"});
  write_file(dir / "b.txt.gz", gzip("text") + "\n");  // one byte, which could not even be judged as a header
  check_error([&] { texts(dir / "b.txt.gz"); }, {"b.txt.gz", "bad gzip data", end_of_member, "something else follows"});
  write_file(dir / "b.txt.zst", zstd("text") + "garbage after the frame");
  check_error([&] { texts(dir / "b.txt.zst"); },
              {"b.txt.zst", "bad zstd data", "byte " + std::to_string(zstd("text").size()), "something else follows"});
  write_file(dir / "c.txt.gz", "plain text under the wrong name");
  check_error([&] { texts(dir / "c.txt.gz"); }, {"c.txt.gz", "bad gzip data", "no gzip file"});
  write_file(dir / "d.txt.zst", "plain text under the wrong name");
  check_error([&] { texts(dir / "d.txt.zst"); }, {"d.txt.zst", "bad zstd data", "no zstd file"});
}

namespace {
size_t before_newline(std::string_view text, size_t from) {
  return text.find('\n', from);
}
}  // namespace

TEST_CASE("a long .txt comes in parts where it may be cut") {
  const TemporaryDirectory dir;
  const std::string text = long_text(50000) + "\u00e9\n\nlast line without newline";
  write_file(dir / "a.txt", text);
  const TextOptions options{.max_part = 100000, .find_cut = before_newline};
  const std::vector<Document> parts = read_documents(dir / "a.txt", options);
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
  CHECK(texts(dir / "a.txt", {.max_part = 100000}) == Texts{text});  // nowhere: held as a whole
  // Every line a part of its own: newlines in a row must not stop the cutting.
  write_file(dir / "b.txt", "\n\n\na\nb");
  const Texts tiny = texts(dir / "b.txt", {.max_part = 1, .find_cut = before_newline});
  CHECK(tiny == Texts{"\n", "\n", "\na", "\nb"});
}

TEST_CASE("a line of JSON may have 40 MB, or as much as is allowed") {
  const TemporaryDirectory dir;
  const std::string large(size_t{40} << 20, 'x');
  write_file(dir / "a.jsonl", "{\"text\":\"" + large + "\"}\n{\"text\":\"b\"}");
  CHECK((texts(dir / "a.jsonl") == Texts{large, "b"}));
  const TextOptions less{.max_document = size_t{1} << 20};
  check_error([&] { texts(dir / "a.jsonl", less); }, {"a.jsonl", "line 1", "longer than 1048576", "--max-document"});
}

namespace {
Texts split(const TemporaryDirectory& dir, const std::string& how, const std::string& text, TextOptions options = {}) {
  write_file(dir / "split.txt", text);
  options.splitting = Splitting::parse(how);
  return texts(dir / "split.txt", options);
}
}  // namespace

TEST_CASE("a .txt is split into documents at blank lines, lines or a token") {
  const TemporaryDirectory dir;
  CHECK(split(dir, "none", "a\n\nb\n") == Texts{"a\n\nb\n"});

  CHECK(split(dir, "lines", "one\n\n two\r\n \t\nthree") == Texts{"one", " two", "three"});
  CHECK(split(dir, "lines", "\n\n").empty());
  CHECK(split(dir, "lines", "one\n\f\n\v \f\ntwo\f") == Texts{"one", "two\f"});

  CHECK(split(dir, "blank-lines", "a\nb\n\nc\n") == Texts{"a\nb", "c"});
  CHECK(split(dir, "blank-lines", "\n\r\na\r\n \t\r\n\r\n\r\nb\nc\n\n\n") == Texts{"a", "b\nc"});
  CHECK(split(dir, "blank-lines", "a\n  b\n\n  c") == Texts{"a\n  b", "  c"});
  CHECK(split(dir, "blank-lines", "a") == Texts{"a"});
  CHECK(split(dir, "blank-lines", "\f\n\na\n\f\nb\n\n\f") == Texts{"a", "b"});

  CHECK(split(dir, "<|end|>", "a\n<|end|>\nb\n\n<|end|>c<|end|>") == Texts{"a", "b\n", "c"});
  CHECK(split(dir, "<|end|>", "<|end|>\r\na\r\n<|end|>\n\n<|end|>\n") == Texts{"a"});
  CHECK(split(dir, "<|end|>", "a<|end>b") == Texts{"a<|end>b"});
  CHECK(split(dir, "\u2042", "a \u2042 b") == Texts{"a ", " b"});
}

TEST_CASE("splitting gives the same documents wherever buffers end and parts are cut") {
  const TemporaryDirectory dir;
  std::vector<std::string> expected;
  std::string lines, paragraphs, tokens;
  for (size_t i = 0; i < 30000; ++i) {
    const std::string word = "document " + std::to_string(i * 2654435761u % 1000003);
    expected.push_back(word);
    lines += word + (i % 3 == 0 ? "\r\n" : "\n");
    paragraphs += word + (i % 3 == 0 ? "\r\n \r\n" : i % 3 == 1 ? "\n\n\n\n" : "\n\n");
    tokens += word + (i % 3 == 0 ? "\r\n<|endoftext|>\r\n" : i % 3 == 1 ? "\n<|endoftext|>" : "<|endoftext|>\n");
  }
  CHECK((split(dir, "lines", lines) == expected));
  CHECK((split(dir, "blank-lines", paragraphs) == expected));
  CHECK((split(dir, "<|endoftext|>", tokens) == expected));

  // Documents longer than a part, whose parts joined are the documents.
  const auto cut = [](std::string_view text, size_t from) { return text.find_first_of(" \n", from); };
  for (const std::string how : {"blank-lines", "<|endoftext|>"}) {
    const std::string between = how == "blank-lines" ? "\n\n" : "\n<|endoftext|>\n";
    std::string text;
    std::vector<std::string> whole;
    for (int i = 0; i < 20; ++i) {
      std::string document = long_text(static_cast<size_t>(100 * i + 1));
      document.pop_back();
      whole.push_back(document);
      text += document + between;
    }
    write_file(dir / "parts.txt", text);
    TextOptions options{.max_part = 50, .splitting = Splitting::parse(how), .find_cut = cut};
    std::vector<std::string> joined;
    for (const Document& part : read_documents(dir / "parts.txt", options)) {
      if (part.begins) joined.emplace_back();
      joined.back() += part.text;
    }
    CHECK((joined == whole));
  }
}

TEST_CASE("what crosses the end of a block that is read stays whole") {
  const TemporaryDirectory dir;
  constexpr size_t block = TextReader::read_bytes;
  // Two bytes of one character, of one line break and of one token fall on both sides of each block's end, or beside
  // it.
  for (const size_t size : {block - 2, block - 1, block, block + 1, 2 * block - 1, 2 * block, 5 * block / 2}) {
    for (const std::string middle : {"\u00e9", "\u20ac", "\U0001F600"}) {
      const std::string text = std::string(size, 'a') + middle + std::string(size, 'b');
      write_file(dir / "a.txt", text);
      CHECK((texts(dir / "a.txt") == Texts{text}));
      write_file(dir / "marked.txt", "\xEF\xBB\xBF" + text);
      CHECK((texts(dir / "marked.txt") == Texts{text}));
      write_file(dir / "a.txt.zst", zstd(text));
      CHECK((texts(dir / "a.txt.zst") == Texts{text}));
      write_file(dir / "a.jsonl", "{\"text\":\"" + text + "\"}\n{\"text\":\"" + middle + "\"}");
      CHECK((texts(dir / "a.jsonl") == Texts{text, middle}));
    }
    const std::string first(size, 'a'), second(size, 'b');
    CHECK((split(dir, "lines", first + "\r\n" + second) == Texts{first, second}));
    CHECK((split(dir, "blank-lines", first + "\r\n\r\n" + second) == Texts{first, second}));
    CHECK((split(dir, "<|end|>", first + "\n<|end|>\n" + second) == Texts{first, second}));
    // A character that is cut off by the end of the file is not one that goes on in the next block.
    write_file(dir / "cut.txt", first + "\xC3");
    check_error([&] { texts(dir / "cut.txt"); }, {"cut.txt", "byte " + std::to_string(size)});
  }
}

TEST_CASE("compressed text that is longer than the blocks of its bytes comes out whole") {
  const TemporaryDirectory dir;
  std::mt19937 random(1);
  std::string text;  // hardly compressible: three quarters of a byte's values
  for (size_t i = 0; i < (size_t{5} << 18) / 2; ++i) text += static_cast<char>(' ' + random() % 95);
  write_file(dir / "a.txt.gz", gzip(text));
  REQUIRE(std::filesystem::file_size(dir / "a.txt.gz") > size_t{2} << 18);
  CHECK((texts(dir / "a.txt.gz") == Texts{text}));
  write_file(dir / "a.txt.zst", zstd(text));
  CHECK((texts(dir / "a.txt.zst") == Texts{text}));
}

TEST_CASE("a document may have as many bytes as are allowed, and not one more") {
  const TemporaryDirectory dir;
  for (const size_t limit : {size_t{1000}, TextReader::read_bytes, 3 * TextReader::read_bytes + 17}) {
    const TextOptions options{.max_part = 100, .max_document = limit};
    for (const size_t size : {limit - 1, limit, limit + 1, 5 * limit / 2}) {
      INFO(size << " bytes of at most " << limit);
      const std::string document(size, 'x'), line = "{\"text\":\"" + std::string(size - 11, 'x') + "\"}";
      const auto check = [&](const Texts& expected, const auto& read, const std::string& what) {
        if (size > limit)
          check_error(read, {what, std::to_string(limit) + " bytes"});
        else
          CHECK((read() == expected));
      };
      for (const std::string end : {"", "\n", "\nb"}) {
        write_file(dir / "a.txt", document + end);
        const Texts expected = end == "\nb" ? Texts{document, "b"} : Texts{document};
        check(
            expected, [&] { return split(dir, "lines", document + end, options); }, "--max-document");
        const std::string next = end == "\nb" ? "\n{\"text\":\"b\"}" : end;
        write_file(dir / "a.jsonl", line + next);
        Texts records = {std::string(size - 11, 'x')};
        if (end == "\nb") records.push_back("b");
        check(
            records, [&] { return texts(dir / "a.jsonl", options); }, "line 1: longer than");
      }
      check(
          Texts{document, "b"}, [&] { return split(dir, "<|end|>", document + "<|end|>b", options); },
          "--max-document");
      check(
          Texts{document}, [&] { return split(dir, "none", document, options); }, "--max-document");
    }
  }
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
  write_file(dir / "utf16.txt", std::string("\xFF\xFEt\0e\0", 6));
  check_error([&] { texts(dir / "utf16.txt"); }, {"utf16.txt", "UTF-8", "UTF-16"});
}

TEST_CASE("a file that is no text is refused as what it is, not as bad text or bad records") {
  const TemporaryDirectory dir;
  const std::string record = "{\"text\":\"ok\"}\n";
  const auto check = [&](const std::string& bytes, const std::string& name) {
    INFO(name);
    for (const std::string file : {"a.txt", "a.jsonl"}) {
      write_file(dir / file, bytes);
      check_error([&] { texts(dir / file, {.skip_bad_records = 10}); }, {file, name});
      write_file(dir / (file + ".gz"), gzip(bytes));
      check_error([&] { texts(dir / (file + ".gz")); }, {file + ".gz", name});
    }
  };
  // Each unit with its low byte first, and with its high byte first; with a byte-order mark and without.
  const auto widened = [&](size_t unit, bool low_first) {
    std::string bytes;
    for (const char c : record) {
      const std::string zeros(unit - 1, '\0');
      bytes += low_first ? c + zeros : zeros + c;
    }
    return bytes;
  };
  check("\xFF\xFE" + widened(2, true), "UTF-16");
  check("\xFE\xFF" + widened(2, false), "UTF-16");
  check(widened(2, true), "UTF-16LE");
  check(widened(2, false), "UTF-16BE");
  check(std::string("\xFF\xFE\0\0", 4) + widened(4, true), "UTF-32");
  check(std::string("\0\0\xFE\xFF", 4) + widened(4, false), "UTF-32");
  check(gzip(record), "gzip");
  check(zstd(record), "zstd");
  check(std::string("\xFD\x37zXZ\0\0\x04", 8), "xz");

  // Git LFS puts its pointers under the names of the files.
  for (const std::string file : {"a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.zst"}) {
    write_file(dir / file, "version https://git-lfs.github.com/spec/v1\noid sha256:9e556afd\nsize 499723\n");
    check_error([&] { texts(dir / file); }, {file, "pointer of Git LFS", "git lfs pull"});
  }
  write_file(dir / "a.txt", "version https://git-lfs.github.com/spec/v2 is not yet there\n");
  CHECK(texts(dir / "a.txt").size() == 1);
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
