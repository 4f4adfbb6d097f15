// Lines of .jsonl files: which are read, which are refused with which words, and which are passed over.
#include <nlohmann/json.hpp>
#include <random>

#include "data/json_record.h"
#include "data/utf8.h"
#include "documents.h"

using namespace strand;
using namespace strand_test;

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
  check("{\"text\":null}", {"a.jsonl", "line 3", "null"});
  check("{\"text\":\"a\",}", {"a.jsonl", "line 3", "JSON"});
  check("{\"text\":\"a\" \"b\":1}", {"a.jsonl", "line 3", "JSON"});
  check("{\"text\":\"a\",\"b\":[1,{]}}", {"a.jsonl", "line 3", "JSON"});
  check("{\"text\":\"tab\there\"}", {"a.jsonl", "line 3", "control character", "byte 12"});
  check("{\"text\":\"\\u12g4\"}", {"a.jsonl", "line 3", "hexadecimal", "byte 13"});
  check("{\"b\":,\"text\":\"a\"}", {"a.jsonl", "line 3", "a value"});
  check("{\"b\":\"cut", {"a.jsonl", "line 3", "breaks off"});
  check("[\"text\"]", {"a.jsonl", "line 3", "array", "jq -c '.[]'"});
  check("{", {"a.jsonl", "line 3", "one object a line", "jq -c ."});  // how an object over several lines begins
  check("{\"text\":", {"a.jsonl", "line 3", "a value was expected"});
  check(std::string(3, '\0'), {"a.jsonl", "line 3", "a control character"});  // as a crash leaves them
  check("{\"text\":\"a\",\"text\":[1]}", {"a.jsonl", "line 3", "an array"});
  check(std::string(100000, '['), {"a.jsonl", "line 3", "JSON"});
}

TEST_CASE("values that nobody reads are passed over, whatever they are") {
  const TemporaryDirectory dir;
  const auto read = [&](const std::string& member) {
    write_file(dir / "a.jsonl", "{" + member + ",\"text\":\"first\"}\n{\"text\":\"second\", " + member + " }\n");
    return texts(dir / "a.jsonl");
  };
  for (const std::string value :
       {"NaN", "-Infinity", "Infinity", "1e999", "-1e-99999", "0123", "\"\\ud83d\"", "\"\\uD800\\uD800\"", "\"\xE9\"",
        "\"\\q\"", "[NaN, [1e999, {\"text\": \"inner\"}]]", "{\"a\": {\"text\": null, \"b\": [\"]}\", \"\\\"\"]}}",
        "\"\\\\\"", "[]", "{}", "null", "123456789012345678901234567890"}) {
    INFO(value);
    CHECK(read("\"other\": " + value) == Texts{"first", "second"});
    CHECK(read("\"a\": 1, \"\\ud800\" : " + value) == Texts{"first", "second"});
  }
  CHECK(read("\"deep\":" + std::string(100000, '[') + std::string(100000, ']')) == Texts{"first", "second"});
}

// As in Python's json and in nlohmann's library.
TEST_CASE("of several values of the key the last one counts") {
  for (const std::string line :
       {R"({"text":"a","text":"last"})", R"({"text":null,"text":"last"})",
        R"({"text":[{"text":"b"}],"x":1,"te\u0078t":"last"})", R"({"text":"\ud800","text":"last"})"}) {
    INFO(line);
    const RecordText record = record_text(line, "text");
    CHECK(record.text == "last");
    CHECK(record.replaced == 0);
  }
}

TEST_CASE("escapes of the text are decoded, and lone surrogates become U+FFFD and are counted") {
  const TemporaryDirectory dir;
  TextCounts counts;
  const auto read = [&](const std::string& text) {
    write_file(dir / "a.jsonl", "{\"text\":\"" + text + "\"}");
    TextReader reader(dir / "a.jsonl", {}, &counts);
    Document document;
    REQUIRE(reader.next(document));
    return document.text;
  };
  CHECK(read(R"(\" \\ \/ \b \f \n \r \t)") == "\" \\ / \b \f \n \r \t");
  CHECK(read(R"(\u0041\u00e9\u2581\uFFFF\ud83d\uDE00)") == "A\u00e9\u2581\uFFFF\U0001F600");
  CHECK(read(R"(\u0000)") == std::string(1, '\0'));
  CHECK(counts.replaced_surrogates == 0);
  CHECK(read(R"(a\ud83db)") == "a\uFFFDb");
  CHECK(read(R"(\ude00)") == "\uFFFD");
  CHECK(read(R"(\ud83d\ud83d\ude00)") == "\uFFFD\U0001F600");
  CHECK(read(R"(\ud83d\n)") == "\uFFFD\n");
  CHECK(read("\xED\xA0\xBD") == "\uFFFD");  // as Python's surrogatepass writes it
  CHECK(counts.replaced_surrogates == 5);
  CHECK(to_string(counts) == "; 5 lone surrogates replaced by U+FFFD");
}

TEST_CASE("JSON may begin with white space or a byte-order mark, have CRLF, and its text another key") {
  const TemporaryDirectory dir;
  write_file(dir / "a.jsonl", "\xEF\xBB\xBF\r\n \t{ \"text\" : \"one\" } \r\n\xEF\xBB\xBF{\"text\":\"two\"}\r\n");
  CHECK(texts(dir / "a.jsonl") == Texts{"one", "two"});
  write_file(dir / "b.jsonl",
             "{\"text\":1,\"content\":\"one\"}\n{\"c\\u006fntent\":\"two\"}\n{\"content\":\"x\",\"content\":\"y\"}");
  CHECK(texts(dir / "b.jsonl", {.text_key = "content"}) == Texts{"one", "two", "y"});
  check_error([&] { texts(dir / "a.jsonl", {.text_key = "content"}); }, {"a.jsonl", "line 2", "no \"content\""});
}

TEST_CASE("so many bad records as are allowed are skipped, over all files") {
  const TemporaryDirectory dir;
  const std::string long_line = "{\"text\":\"" + std::string(300000, 'x') + "\"}\n";
  write_file(dir / "a.jsonl",
             "{\"text\":\"one\"}\n{\"text\":\n[1]\n{\"text\":\"two\"}\n" + long_line + "{\"text\":\"three\"}\n");
  write_file(dir / "b.jsonl", "{\"text\":\"\xE9\"}\n{\"text\":\"four\"}\n{\"text\":5}\n");
  TextOptions options{.max_document = 100000, .skip_bad_records = 4};
  TextCounts counts;
  const auto read = [&](const std::string& name) {
    TextReader reader(dir / name, options, &counts);
    Texts found;
    for (Document document; reader.next(document);) found.push_back(document.text);
    return found;
  };
  CHECK(read("a.jsonl") == Texts{"one", "two", "three"});
  CHECK(counts.skipped_records == 3);
  check_error([&] { read("b.jsonl"); }, {"b.jsonl", "line 3", "number", "4 bad records were skipped"});
  CHECK(counts.skipped_records == 4);
  CHECK(to_string(counts) == "; 4 bad records skipped");
  options.skip_bad_records = 0;
  counts = {};
  check_error([&] { read("b.jsonl"); }, {"b.jsonl", "line 1", "--skip-bad-records"});
}

namespace {
std::string random_text(std::mt19937& random) {
  static const Texts parts = {"a",      " ",      "\"",         "\\", "/", "\n", "\t", "\x7f",
                              "\u00e9", "\u2028", "\U0001F600", "{",  "]", ",",  ":",  "\x01"};
  std::string text;
  for (size_t i = random() % 12; i > 0; --i) text += parts[random() % parts.size()];
  return text;
}

nlohmann::json random_value(std::mt19937& random, int depth) {
  switch (random() % (depth > 3 ? 5 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<int>(random());
    case 3:
      return static_cast<double>(random()) / 1e7;
    case 4:
      return random_text(random);
    case 5: {
      nlohmann::json array = nlohmann::json::array();
      for (size_t i = random() % 4; i > 0; --i) array.push_back(random_value(random, depth + 1));
      return array;
    }
    default: {
      nlohmann::json object = nlohmann::json::object();
      for (size_t i = random() % 4; i > 0; --i) object[random_text(random)] = random_value(random, depth + 1);
      return object;
    }
  }
}
}  // namespace

TEST_CASE("records that another library wrote are read, and damaged ones end in an answer or in an Error") {
  std::mt19937 random(11);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    nlohmann::json object = nlohmann::json::object();
    for (size_t k = random() % 5; k > 0; --k) object[random_text(random)] = random_value(random, 0);
    const std::string text = random_text(random);
    object["text"] = text;
    std::string line = object.dump(random() % 2 == 0 ? -1 : 1, ' ', random() % 2 == 0);
    INFO(line);
    REQUIRE(record_text(line, "text").text == text);
    REQUIRE(record_text(line, "text").replaced == 0);
    for (int edit = 0; edit < 2; ++edit) line[random() % line.size()] = static_cast<char>(random());
    if (i % 4 == 0) line.resize(random() % line.size());
    try {
      const std::string read = record_text(line, "text").text;
      CHECK(first_invalid_utf8(read) == read.size());
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 500);
}
