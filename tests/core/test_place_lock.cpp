// Locks of directories and outputs: who is kept out, by whom, and until when.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/place_lock.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
const PlaceLock::Request request{.command = "strand train", .otherwise = "set another run.name"};

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "strand_lock_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) fail_errno("create", name);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string at(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

/// A process that holds what `lock` gives until it is killed.
class Holder {
 public:
  template <typename Lock>
  explicit Holder(const Lock& lock) {
    int ends[2];
    if (pipe(ends) != 0) fail_errno("create", "a pipe");
    child_ = fork();
    if (child_ == 0) {
      signal(SIGHUP, SIG_DFL);
      const PlaceLock held = lock();
      (void)!write(ends[1], "x", 1);
      for (;;) pause();
    }
    char ready = 0;
    close(ends[1]);
    (void)!read(ends[0], &ready, 1);
    close(ends[0]);
  }
  ~Holder() { kill_it(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  void kill_it(int signal = SIGKILL) {
    if (child_ <= 0) return;
    kill(child_, signal);
    waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  pid_t process() const { return child_; }

 private:
  pid_t child_ = 0;
};
}  // namespace

TEST_CASE("One process has a directory, and the next one is told which") {
  const Folder folder;
  const std::string run = folder.at("runs/one");
  Holder first([&] { return PlaceLock::of_directory(run, request); });
  char host[256] = {};
  REQUIRE(gethostname(host, sizeof host - 1) == 0);
  CHECK_THROWS_WITH(PlaceLock::of_directory(run, request),
                    Contains(run + " is in use by process " + std::to_string(first.process()) + " on host " + host) &&
                        Contains("strand train") && Contains("set another run.name"));
  PlaceLock::of_directory(folder.at("runs/two"), request);  // another directory is free
  first.kill_it();
  CHECK(fs::exists(run + "/.lock"));  // left by the dead
  PlaceLock::of_directory(run, request);
  CHECK(!fs::exists(run + "/.lock"));
}

TEST_CASE("The lock ends with its object, and leaves nothing that it made") {
  const Folder folder;
  {
    const PlaceLock lock = PlaceLock::of_directory(folder.at("a/b/c"), request);
    CHECK_THROWS(PlaceLock::of_directory(folder.at("a/b/c"), request));
  }
  CHECK(!fs::exists(folder.at("a")));
  {
    const PlaceLock lock = PlaceLock::of_directory(folder.at("a/b/c"), request);
    std::ofstream(folder.at("a/b/file")) << "kept";
  }
  CHECK(!fs::exists(folder.at("a/b/c")));
  CHECK(fs::exists(folder.at("a/b/file")));
}

TEST_CASE("A signal that ends the process takes the lock's file along") {
  const Folder folder;
  Holder holder([&] { return PlaceLock::of_output(folder.at("out"), request); });
  REQUIRE(fs::exists(folder.at(".out.lock")));
  holder.kill_it(SIGHUP);
  CHECK(!fs::exists(folder.at(".out.lock")));
}

TEST_CASE("An output's lock is a hidden file beside it") {
  const Folder folder;
  const PlaceLock lock = PlaceLock::of_output(folder.at("new/out/"), request);
  CHECK(fs::exists(folder.at("new/.out.lock")));
  CHECK(!fs::exists(folder.at("new/out")));
  CHECK_THROWS_WITH(PlaceLock::of_output(folder.at("new/out"), request), Contains("new/out is in use by process"));
  PlaceLock::of_output(folder.at("new/other"), request);
}

TEST_CASE("As long as one process of a run lives, another run does not get its directory") {
  const Folder folder;
  std::optional<Holder> first, second;
  first.emplace([&] { return PlaceLock::of_directory(folder.at("run"), request); });
  second.emplace([&] { return PlaceLock::join_directory(folder.at("run")); });
  first->kill_it();
  CHECK_THROWS_WITH(PlaceLock::of_directory(folder.at("run"), request),
                    Contains("which has ended, but other processes of the same run have not"));
  second->kill_it();
  PlaceLock::of_directory(folder.at("run"), request);
}

TEST_CASE("Joining what cannot be seen does nothing") {
  const Folder folder;
  PlaceLock::join_directory(folder.at("elsewhere"));
  CHECK(!fs::exists(folder.at("elsewhere")));
}

TEST_CASE("Whatever stands in the lock's file, the lock is the system's") {
  const Folder folder;
  fs::create_directory(folder.at("run"));
  std::ofstream(folder.at("run/.lock")) << "process 1 on host other (strand train, since yesterday)\n";
  const PlaceLock lock = PlaceLock::of_directory(folder.at("run"), request);
  std::ofstream(folder.at("run/.lock")) << "\x1b[31m\nsecond line";
  CHECK_THROWS_WITH(PlaceLock::of_directory(folder.at("run"), request),
                    Contains("is in use by  [31m: wait") && !Contains("second line"));
}

TEST_CASE("Many that come and go never have it at the same time") {
  const Folder folder;
  constexpr int processes = 4, turns = 100;
  std::ofstream(folder.at("count")) << 0;
  std::vector<pid_t> children;
  for (int p = 0; p < processes; ++p) {
    children.push_back(fork());
    if (children.back() != 0) continue;
    for (int done = 0; done < turns;) {
      try {
        const PlaceLock lock = PlaceLock::of_directory(folder.at("run"), request);
        int count = -1;
        std::ifstream(folder.at("count")) >> count;
        std::ofstream(folder.at("count")) << count + 1;
        ++done;
      } catch (const Error&) {  // somebody else has it
      }
    }
    _exit(0);
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  int count = 0;
  std::ifstream(folder.at("count")) >> count;
  CHECK(count == processes * turns);
}

TEST_CASE("A lock's file that is a link is refused, and what it leads to stays as it was") {
  const Folder folder;
  std::ofstream(folder.at("precious")) << "kept";
  fs::create_directory(folder.at("run"));
  fs::create_symlink("../precious", folder.at("run/.lock"));
  CHECK_THROWS_WITH(PlaceLock::of_directory(folder.at("run"), request), Contains("cannot open the lock"));
  std::string text;
  std::ifstream(folder.at("precious")) >> text;
  CHECK(text == "kept");
}
