// An export with a power cut at any moment: the directory has its name only when every file of it is whole, and has it
// for certain when the export was said to be done.
#include "../checkpoint/power_cut.h"
#include "export/hf_export.h"
#include "models.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

TEST_CASE("An exported directory is there whole or not at all, after a power cut at any moment") {
  const TemporaryDirectory dir, again;
  const Config config = config_of(class_cases[0]);
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  fs::create_directory(dir / "disk");
  PowerCutLayer layer(dir / "disk");
  {
    const InterposedFileLayer interposed(layer);
    hf::export_model(checkpoint, config, dir / "disk/models/out");
    layer.promise(1);
  }
  std::map<std::string, std::string> whole;
  for (const auto& entry : fs::directory_iterator(dir / "disk/models/out"))
    whole[entry.path().filename().string()] = get(entry.path().string());
  REQUIRE(whole.size() >= 3);
  int64_t states = 0;
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call << " of " << PowerCut(layer).calls());
    ++states;
    const bool named = state.contains("models/out");
    if (promise == 1) CHECK(named);
    if (!named) return;
    for (const auto& [name, bytes] : whole) {
      INFO(name);
      const auto found = state.find("models/out/" + name);
      REQUIRE(found != state.end());
      const bool same = found->second == bytes;
      CHECK(same);
    }
  });
  CHECK(states > 20);
}
