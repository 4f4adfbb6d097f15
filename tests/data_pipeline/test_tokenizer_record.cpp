// Token files name their tokenizer, and files of another tokenizer are refused.
#include <array>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "bpe_json.h"
#include "data/describe.h"
#include "data/token_writer.h"
#include "data/tokenizer_record.h"
#include "files.h"

using namespace strand;
using namespace strand_test;
using Catch::Contains;

namespace {
/// As many merges as `hello` has.
const std::vector<std::pair<std::string, std::string>> jello = {
    {"j", "e"}, {"l", "l"}, {"je", "ll"}, {"jell", "o"}, {" ", "w"}, {"a", "a"}, {"\xC3", "\xA9"}, {"o", "\xCC"}};

std::unique_ptr<const Tokenizer> write_tokenizer(const std::string& path, const json& content, int indent = -1) {
  write_file(path, content.dump(indent));
  return Tokenizer::load(path);
}

/// Writes ids with the record of `tokenizer`, or without one where it is null.
void write_pair(const std::string& prefix, const std::vector<int32_t>& ids, const Tokenizer* tokenizer) {
  auto writer = tokenizer != nullptr ? std::make_unique<TokenWriter>(prefix, *tokenizer)
                                     : std::make_unique<TokenWriter>(prefix, 300);
  writer->append(ids);
  writer->end_document();
  writer->seal();
  writer->publish();
}

std::shared_ptr<const TokenFile> opened(const std::string& path) {
  return std::make_shared<const TokenFile>(path);
}

/// What the program of that name in coreutils prints.
std::string sha256sum(const std::string& path) {
  std::array<char, 64> digits{};
  FILE* output = popen(("sha256sum < '" + path + "'").c_str(), "r");
  REQUIRE(output != nullptr);
  const size_t read = std::fread(digits.data(), 1, digits.size(), output);
  pclose(output);
  return {digits.data(), read};
}

// Two tokenizers of one size, with which the same ids are other texts.
struct Tokenizers {
  TemporaryDirectory dir;
  std::unique_ptr<const Tokenizer> one = write_tokenizer(dir / "one/tokenizer.json", small_json(hello));
  std::unique_ptr<const Tokenizer> other = write_tokenizer(dir / "other/tokenizer.json", small_json(jello));
};

const std::vector<int32_t> ids = {104, 258, 259, 97};
}  // namespace

TEST_CASE("a record names the tokenizer by the SHA-256 of its file, and leaves the pair as it is") {
  const Tokenizers with;
  write_pair(with.dir / "plain", ids, nullptr);
  write_pair(with.dir / "named", ids, with.one.get());
  for (const char* file : {".bin", ".idx"})
    CHECK(read_file(with.dir / (std::string("named") + file)) == read_file(with.dir / (std::string("plain") + file)));
  CHECK_FALSE(std::filesystem::exists(with.dir / "plain.tokenized"));

  const json record = json::parse(read_file(with.dir / "named.tokenized"));
  CHECK(record["format"] == "strand-tokenized-1");
  CHECK(record["tokenizer"]["sha256"] == sha256sum(with.dir / "one/tokenizer.json"));
  CHECK(record["tokenizer"]["pieces"] == 256 + hello.size());
  CHECK(record["tokenizer"]["file"] == with.dir / "one/tokenizer.json");
  for (const char* name : {"named", "named.bin", "named.idx"}) {
    const TokenOrigin origin = origin_of(*opened(with.dir / name));
    REQUIRE(origin.tokenizer);
    CHECK(record["tokenizer"]["sha256"] == origin.tokenizer->sha256);
  }
}

TEST_CASE("a file of another tokenizer is refused with both names, also where vocabularies have one size") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  CHECK(check_tokenizers({opened(with.dir / "x")}, with.one.get()).empty());
  check_error([&] { check_tokenizers({opened(with.dir / "x")}, with.other.get()); },
              {"x.bin was made with the tokenizer", "one/tokenizer.json", "not with", "other/tokenizer.json",
               sha256sum(with.dir / "one/tokenizer.json"), sha256sum(with.dir / "other/tokenizer.json"),
               "strand tokenize --tokenizer", "remove", "x.tokenized"});
  std::filesystem::remove(with.dir / "x.tokenized");
  CHECK_THAT(check_tokenizers({opened(with.dir / "x")}, with.other.get()).at(0), Contains("does not name"));
}

TEST_CASE("without a tokenizer, the files of a group are compared with each other") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  write_pair(with.dir / "y", ids, with.other.get());
  write_pair(with.dir / "z", ids, nullptr);
  CHECK(check_tokenizers({opened(with.dir / "z"), opened(with.dir / "x"), opened(with.dir / "x")}, nullptr).empty());
  check_error(
      [&] {
        check_tokenizers({opened(with.dir / "x"), opened(with.dir / "z"), opened(with.dir / "y")}, nullptr);
      },
      {"y.bin was made with", "other/tokenizer.json", "not with", "one/tokenizer.json"});
}

TEST_CASE("all files that name no tokenizer are one remark") {
  const Tokenizers with;
  std::vector<std::shared_ptr<const TokenFile>> files;
  for (const char* name : {"a", "b", "c"}) {
    write_pair(with.dir / name, ids, nullptr);
    files.push_back(opened(with.dir / name));
  }
  const std::vector<std::string> remarks = check_tokenizers(files, with.one.get());
  REQUIRE(remarks.size() == 1);
  CHECK_THAT(remarks[0], Contains("a.bin and 2 more do not name the tokenizer"));
}

TEST_CASE("the same pieces in another file are accepted with a remark: written anew, or more of them") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  json more = small_json(hello);
  const auto anew = write_tokenizer(with.dir / "anew/tokenizer.json", more, 2);
  more["added_tokens"].push_back(added(256 + static_cast<int32_t>(hello.size()), "<|chat|>", {"special"}));
  const auto extended = write_tokenizer(with.dir / "extended/tokenizer.json", more);
  for (const Tokenizer* tokenizer : {anew.get(), extended.get()}) {
    const std::vector<std::string> remarks = check_tokenizers({opened(with.dir / "x")}, tokenizer);
    REQUIRE(remarks.size() == 1);
    CHECK_THAT(remarks[0], Contains("the same pieces") && Contains(tokenizer->name()));
  }
  // Ids of the larger one may have no piece in the smaller one.
  write_pair(with.dir / "y", ids, extended.get());
  check_error([&] { check_tokenizers({opened(with.dir / "y")}, with.one.get()); }, {"y.bin was made with"});
}

TEST_CASE("a writer that is given up leaves no record, and keeps that of an older pair") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  const size_t entries = with.dir.entries();
  {
    TokenWriter writer(with.dir / "x", *with.other);
    writer.append(ids);
    writer.end_document();
    writer.seal();
  }
  CHECK(with.dir.entries() == entries);
  CHECK(check_tokenizers({opened(with.dir / "x")}, with.one.get()).empty());
}

TEST_CASE("a record does not count for ids that took the place of its own") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  write_pair(with.dir / "new", {104, 258, 259, 98}, nullptr);  // as many, so the index is the same
  std::filesystem::rename(with.dir / "new.bin", with.dir / "x.bin");
  const std::vector<std::string> remarks = check_tokenizers({opened(with.dir / "x")}, with.other.get());
  REQUIRE(remarks.size() == 1);
  CHECK_THAT(remarks[0], Contains("is not known") && Contains("x.tokenized belongs to other ids"));
  // A writer that knows no tokenizer leaves no record of the pair that it replaces.
  write_pair(with.dir / "x", ids, nullptr);
  CHECK_FALSE(std::filesystem::exists(with.dir / "x.tokenized"));
}

TEST_CASE("a damaged record is a remark and never stops anybody") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  const std::string whole = read_file(with.dir / "x.tokenized");
  const auto remark_of = [&](const std::string& record) {
    write_file(with.dir / "x.tokenized", record);
    const TokenOrigin origin = origin_of(*opened(with.dir / "x"));
    CHECK_FALSE(origin.tokenizer);
    return origin.remark;
  };
  for (size_t size = 0; size + 2 < whole.size(); size += 7)
    CHECK_THAT(remark_of(whole.substr(0, size)), Contains("x.tokenized"));
  json record = json::parse(whole);
  record["format"] = "strand-tokenized-2";
  CHECK_THAT(remark_of(record.dump()), Contains("strand-tokenized-2"));
  record = json::parse(whole);
  record["tokenizer"]["sha256"] = "5f2c";
  CHECK_THAT(remark_of(record.dump()), Contains("\"sha256\" is not a SHA-256"));
  record = json::parse(whole);
  record["tokenizer"]["pieces"] = 0;
  CHECK_THAT(remark_of(record.dump()), Contains("0 pieces"));
  CHECK_THAT(check_tokenizers({opened(with.dir / "x")}, with.other.get()).at(0), Contains("is not known"));
}

TEST_CASE("a description names the tokenizer, and says when another one was given") {
  const Tokenizers with;
  write_pair(with.dir / "x", ids, with.one.get());
  const auto described = [&](const Tokenizer* tokenizer) {
    return describe_token_file(with.dir / "x", TokenFormat::automatic, tokenizer);
  };
  CHECK_THAT(described(nullptr), Contains("made with the tokenizer: ") && Contains("one/tokenizer.json") &&
                                     Contains(sha256sum(with.dir / "one/tokenizer.json")));
  CHECK_THAT(described(with.one.get()), Contains("begins: hhellhelloa"));
  CHECK_THAT(described(with.other.get()), Contains("WRONG TOKENIZER") && !Contains("begins: "));
  std::filesystem::remove(with.dir / "x.tokenized");
  CHECK_THAT(described(with.other.get()), Contains("not recorded (there is no") && Contains("begins: "));
}
