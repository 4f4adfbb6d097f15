// A pair of token files that replaces an older one, with a power cut at any moment: where there is an index, it is that
// of the ids beside it, the record beside them names the tokenizer that made them, and what was said to be written is
// there.
#include <array>
#include <filesystem>
#include <vector>

#include "../checkpoint/power_cut.h"
#include "bpe_json.h"
#include "data/token_file.h"
#include "data/token_writer.h"
#include "data/tokenizer_record.h"
#include "files.h"

using namespace strand;
using namespace strand_test;
using strand::test::DiskState;
using strand::test::PowerCut;
using strand::test::PowerCutLayer;

namespace {
const std::vector<std::vector<int32_t>> versions = {{1, 2, 3, 4, 5}, {9, 8, 7}};

void write(const std::string& prefix, const std::vector<int32_t>& ids, const Tokenizer& tokenizer) {
  TokenWriter writer(prefix, tokenizer);
  writer.append(ids);
  writer.end_document();
  writer.seal();
  writer.publish();
}
}  // namespace

TEST_CASE("Token files after a power cut at any moment") {
  const TemporaryDirectory dir, again;
  PowerCutLayer layer(dir.path());
  const std::array tokenizers = {tokenizer_of(small_json(hello)), tokenizer_of(small_json({{"a", "b"}}))};
  {
    const InterposedFileLayer interposed(layer);
    for (size_t i = 0; i < versions.size(); ++i) {
      write(dir / "corpus/tokens", versions[i], *tokenizers[i]);
      layer.promise(static_cast<int64_t>(i));
    }
  }
  int64_t states = 0;
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call);
    ++states;
    test::put_on_disk(state, again / "disk");
    const std::string prefix = again / "disk/corpus/tokens";
    const bool there = std::filesystem::exists(prefix + ".idx");
    if (promise == 1) CHECK(there);
    if (!there) return;
    const TokenFile file(prefix);
    std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
    file.read(0, file.tokens(), 100, ids.data());
    const bool newer = ids == versions[1];
    CHECK((newer || (promise < 1 && ids == versions[0])));
    const TokenOrigin origin = origin_of(file);
    REQUIRE(origin.tokenizer);
    CHECK(origin.tokenizer->sha256 == identity_of(*tokenizers[newer ? 1 : 0]).sha256);
  });
  CHECK(states > 10);
}
