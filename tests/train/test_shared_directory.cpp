// One run directory for all ranks, or a refusal that leaves nothing behind. Ranks are threads; one that is given
// another path stands for a host with another file system.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <vector>

#include "tests/catch.h"
#include "tests/parallel/thread_grid.h"
#include "train/shared_directory.h"

namespace strand::test {
namespace {
namespace fs = std::filesystem;
using Catch::Contains;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "strand_shared_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) fail_errno("create", name);
    root = name;
  }
  ~Folder() { fs::remove_all(root); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path root;
};

/// What each rank is told; "" when it may go on. Rank r looks in `directories[r]`.
std::vector<std::string> answers(const std::vector<fs::path>& directories) {
  std::vector<std::string> told(directories.size());
  run_ranks(static_cast<int>(directories.size()), 1, [&](ProcessGrid& grid) {
    const auto rank = static_cast<size_t>(grid.world().rank());
    try {
      require_shared_directory(grid.control(), directories[rank].string());
    } catch (const Error& error) {
      told[rank] = error.what();
    }
  });
  return told;
}
}  // namespace

TEST_CASE("A directory that all ranks see is accepted, there already or not, and nothing of the look stays") {
  const Folder folder;
  const fs::path deep = folder.root / "runs" / "new";
  CHECK(answers({deep, deep, deep}) == std::vector<std::string>(3));
  CHECK(fs::is_empty(folder.root));
  fs::create_directories(deep);
  std::ofstream(deep / "kept") << "text";
  CHECK(answers({deep, deep}) == std::vector<std::string>(2));
  CHECK(std::distance(fs::directory_iterator(deep), fs::directory_iterator()) == 1);
}

TEST_CASE("Ranks that see another directory are named on every rank, and nothing is written") {
  const Folder folder;
  const fs::path here = folder.root / "here" / "run", there = folder.root / "there" / "run";
  for (const std::string& told : answers({here, there, here, there})) {
    CHECK_THAT(told, Contains("is not shared: rank 1 on ") && Contains(", rank 3 on ") && Contains(here.string()));
    CHECK_THAT(told, !Contains("rank 2"));
  }
  CHECK(fs::is_empty(folder.root));
}

TEST_CASE("A directory that rank 0 cannot make is an error of all ranks") {
  const Folder folder;
  std::ofstream(folder.root / "file") << "text";
  const fs::path impossible = folder.root / "file" / "run";
  for (const std::string& told : answers({impossible, impossible}))
    CHECK_THAT(told, Contains("cannot create the run directory") && Contains(impossible.string()));
}

}  // namespace strand::test
