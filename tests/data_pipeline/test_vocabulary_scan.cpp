// The scan of token files for ids outside the vocabulary.
#include <memory>

#include "data/vocabulary_scan.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {
std::shared_ptr<const TokenFile> file_of(const std::string& path, int64_t tokens, int64_t bad_place = -1) {
  std::string bytes(static_cast<size_t>(2 * tokens), '\0');
  if (bad_place >= 0) bytes[static_cast<size_t>(2 * bad_place)] = 100;
  write_file(path, bytes);
  return std::make_shared<const TokenFile>(path, TokenFormat::raw_u16);
}

std::string found(std::vector<std::shared_ptr<const TokenFile>> files) {
  VocabularyScan scan(std::move(files), 100);
  scan.wait();
  return scan.found();
}
}  // namespace

TEST_CASE("a bad id is found wherever it stands, around the blocks that are read") {
  const TemporaryDirectory dir;
  constexpr int64_t block = VocabularyScan::block_tokens;
  for (const int64_t tokens : {int64_t{1}, block - 1, block, block + 1, 5 * block / 2}) {
    INFO(tokens << " tokens");
    CHECK(found({file_of(dir / "a.bin", tokens)}).empty());
    for (const int64_t place : {int64_t{0}, block - 1, block, block + 1, tokens - 1}) {
      if (place >= tokens) continue;
      const std::string error = found({file_of(dir / "a.bin", tokens, place)});
      CHECK_THAT(error, Catch::Contains("a.bin: token " + std::to_string(place) + " has the id 100,"));
    }
  }
}

TEST_CASE("every file is scanned, and one that cannot be read is told of") {
  const TemporaryDirectory dir;
  const auto good = file_of(dir / "good.bin", 70000), bad = file_of(dir / "bad.bin", 5, 4);
  CHECK_THAT(found({good, bad}), Catch::Contains("bad.bin: token 4"));
  std::filesystem::resize_file(dir / "good.bin", 100);
  CHECK_THAT(found({good}), Catch::Contains("good.bin has become shorter"));
}
