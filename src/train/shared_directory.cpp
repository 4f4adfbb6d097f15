#include "train/shared_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>
#include <vector>

#include "core/error.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr int looks = 20;
constexpr auto between_looks = std::chrono::milliseconds(100);
constexpr size_t most_named = 4;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "?";
}

/// The file that rank 0 makes, and the folders that it made for this file.
class Mark {
 public:
  Mark() = default;
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  ~Mark() {
    std::error_code ignored;
    if (!file_.empty()) fs::remove(file_, ignored);
    for (const fs::path& folder : made_)
      if (rmdir(folder.c_str()) != 0) return;  // somebody uses it
  }

  /// Throws Error when the file cannot be written.
  void make(const fs::path& directory, const std::string& name) {
    for (fs::path p = directory; !p.empty() && !fs::exists(p); p = p.parent_path()) made_.push_back(p);
    std::error_code error;
    fs::create_directories(directory, error);
    require(!error, "cannot create the run directory {}: {}", directory.string(), error.message());
    const fs::path file = directory / name;
    const int descriptor = open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (descriptor < 0) fail_errno("create", file.string());
    close(descriptor);
    file_ = file;
  }

 private:
  fs::path file_;
  std::vector<fs::path> made_;  ///< innermost first
};

bool comes_to_sight(const fs::path& file) {
  std::error_code ignored;
  for (int look = 0; look < looks; ++look) {
    if (look > 0) std::this_thread::sleep_for(between_looks);
    if (fs::exists(file, ignored)) return true;
  }
  return false;
}

/// Returns "" when all ranks see the directory. `blind[r]` is the host of rank r when it does not see it, else "".
std::string who_is_blind(const std::vector<std::string>& blind) {
  std::string text;
  size_t count = 0;
  for (size_t rank = 0; rank < blind.size(); ++rank) {
    if (blind[rank].empty() || ++count > most_named) continue;
    text += fmt::format("{}rank {} on {}", text.empty() ? "" : ", ", rank, blind[rank]);
  }
  return count > most_named ? fmt::format("{} and {} more", text, count - most_named) : text;
}
}  // namespace

void require_shared_directory(ControlChannel& all, const std::string& directory) {
  if (all.size() == 1) return;
  Mark mark;
  std::string name, failure;
  if (all.rank() == 0) {
    try {
      name = fmt::format(".seen-by-all-{:08x}{:08x}", std::random_device()(), std::random_device()());
      mark.make(fs::absolute(directory).lexically_normal(), name);
    } catch (const std::exception& error) {
      failure = error.what();
    }
  }
  failure = all.all_gather(failure)[0];
  require(failure.empty(), "{}", failure);
  name = all.all_gather(name)[0];
  const bool seen = comes_to_sight(fs::path(directory) / name);
  const std::string where = all.all_gather(directory)[0];
  const std::vector<std::string> hosts = all.all_gather(host_name());
  const std::string blind = who_is_blind(all.all_gather(seen ? std::string() : host_name()));
  require(
      blind.empty(),
      "the run directory {} of rank 0 on {} is not shared: {} does not see what rank 0 writes there; all ranks need "
      "the same file system at that path, so set run.dir to a folder on one",
      where, hosts[0], blind);
}

}  // namespace strand
