// Whatever signal ends a process, its temporary paths go, and the process ends as if the signal had not been handled.
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/temporary_path.h"
#include "tests/signalled_child.h"

using namespace strand;
using strand_test::signal_that_ends;

namespace {
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "strand_temporary_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path path() const { return path_; }
  /// A file, and a directory with two levels and more entries than one call of the system lists.
  void fill() const {
    std::ofstream(path_ / "file.tmp") << "x";
    fs::create_directories(path_ / "tree.tmp/below");
    for (int i = 0; i < 300; ++i) std::ofstream(path_ / "tree.tmp" / std::to_string(i)) << "x";
    std::ofstream(path_ / "tree.tmp/below/y") << "y";
    fs::create_symlink("..", path_ / "tree.tmp/below/up");
    std::ofstream(path_ / "kept") << "x";
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path_)) found.push_back(entry.path().filename().string());
    return found;
  }

 private:
  fs::path path_;
};

using Names = std::vector<std::string>;
}  // namespace

TEST_CASE("a signal that ends the process removes its temporary files and directories") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU, SIGABRT, SIGPIPE,
                           SIGVTALRM, SIGTRAP, SIGSYS, SIGRTMIN + 1}) {
    INFO("signal " << signal);
    const Folder folder;
    folder.fill();
    CHECK(signal_that_ends([&] {
            const TemporaryPath file(folder.path() / "file.tmp"), tree(folder.path() / "tree.tmp"),
                missing(folder.path() / "missing.tmp");
            raise(signal);
          }) == signal);
    CHECK(folder.names() == Names{"kept"});
  }
}

TEST_CASE("a directory that has got its final name is not touched") {
  const Folder folder;
  folder.fill();
  CHECK(signal_that_ends([&] {
          const TemporaryPath tree(folder.path() / "tree.tmp"), file(folder.path() / "file.tmp");
          fs::rename(folder.path() / "tree.tmp", folder.path() / "tree");
          raise(SIGTERM);
        }) == SIGTERM);
  CHECK(fs::exists(folder.path() / "tree/below/y"));
  CHECK(!fs::exists(folder.path() / "file.tmp"));
}

TEST_CASE("a path that was given up stays") {
  const Folder folder;
  std::ofstream(folder.path() / "file.tmp") << "x";
  CHECK(signal_that_ends([&] {
          { const TemporaryPath file(folder.path() / "file.tmp"); }
          raise(SIGTERM);
        }) == SIGTERM);
  CHECK(folder.names() == Names{"file.tmp"});
}

TEST_CASE("signals that are ignored or handled already keep their meaning") {
  const Folder folder;
  std::ofstream(folder.path() / "file.tmp") << "x";
  CHECK(signal_that_ends([&] {
          std::signal(SIGHUP, SIG_IGN);
          std::signal(SIGUSR1, [](int) {});
          const TemporaryPath file(folder.path() / "file.tmp");
          raise(SIGHUP);
          raise(SIGUSR1);
          raise(SIGWINCH);
          raise(SIGCHLD);
        }) == 0);
  CHECK(folder.names() == Names{"file.tmp"});
}

TEST_CASE("a place is free again when its path is given up") {
  for (int i = 0; i < 1000; ++i) TemporaryPath("nowhere");
  std::vector<std::unique_ptr<TemporaryPath>> many;
  CHECK_THROWS_AS(
      [&] {
        for (int i = 0; i < 1000; ++i) many.push_back(std::make_unique<TemporaryPath>("nowhere"));
      }(),
      Error);
  CHECK(many.size() >= 64);
}
