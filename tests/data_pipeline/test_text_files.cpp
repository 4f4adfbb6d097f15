// Walks over directories: what is read, in which order, and that whatever is not read is named.
#include <sys/stat.h>

#include <filesystem>
#include <vector>

#include "data/text_files.h"
#include "data/text_reader.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {
namespace fs = std::filesystem;
using Texts = std::vector<std::string>;
}  // namespace

TEST_CASE("directories are read in sorted order, and what is left out is named") {
  const TemporaryDirectory dir;
  for (const std::string name :
       {"d/b.txt", "d/a/z.jsonl.gz", "d/c.txt.zst", "d/.hidden.txt", "d/.git/x.txt", "d/readme.md"}) {
    write_file(dir / name, "x");
  }
  write_file(dir / "first.txt", "x");
  REQUIRE(mkfifo((dir / "d/pipe.txt").c_str(), 0600) == 0);
  const TextFiles files = list_text_files({dir / "first.txt", dir / "d"});
  CHECK(files.paths == Texts{dir / "first.txt", dir / "d/a/z.jsonl.gz", dir / "d/b.txt", dir / "d/c.txt.zst"});
  CHECK(files.left_out == Texts{dir / "d/.git: hidden", dir / "d/.hidden.txt: hidden",
                                dir / "d/pipe.txt: neither a file nor a directory",
                                dir / "d/readme.md: no text file by its name"});
  check_error([&] { list_text_files({dir / "none"}); }, {"none"});
  check_error([&] { list_text_files({dir / "d/readme.md"}); }, {"readme.md", ".jsonl"});
  check_error([&] { TextReader(dir / "d/readme.md"); }, {"readme.md", ".jsonl"});
  check_error([&] { TextReader(dir / "none.txt"); }, {"none.txt", "No such file"});
  fs::create_directories(dir / "empty");
  check_error([&] { list_text_files({dir / "empty"}); }, {"no text file"});
}

TEST_CASE("links are followed, each directory once") {
  const TemporaryDirectory dir;
  write_file(dir / "elsewhere/deep/x.txt", "x");
  write_file(dir / "other.txt", "x");
  write_file(dir / "d/b.txt", "x");
  write_file(dir / "d/e/c.txt", "x");
  fs::create_directory_symlink(dir / "elsewhere", dir / "d/a");
  fs::create_symlink("../other.txt", dir / "d/link.txt");
  fs::create_directory_symlink("..", dir / "d/e/up");
  fs::create_directory_symlink("e", dir / "d/f");
  const TextFiles files = list_text_files({dir / "d"});
  CHECK(files.paths == Texts{dir / "d/a/deep/x.txt", dir / "d/b.txt", dir / "d/e/c.txt", dir / "d/link.txt"});
  CHECK(files.left_out == Texts{dir / "d/e/up: the same directory as " + (dir / "d"),
                                dir / "d/f: the same directory as " + (dir / "d/e")});
  fs::create_directory_symlink(dir / "d", dir / "input");
  CHECK(list_text_files({dir / "input"}).paths.size() == 4);
}

TEST_CASE("a file that is met again, by a link or as an input, is read once and named") {
  const TemporaryDirectory dir;
  write_file(dir / "d/a.txt", "x");
  write_file(dir / "d/same words.txt", "x");
  fs::create_symlink("a.txt", dir / "d/b.txt");
  fs::create_hard_link(dir / "d/a.txt", dir / "d/c.txt");
  const std::string same = ": the same file as " + (dir / "d/a.txt");
  TextFiles files = list_text_files({dir / "d"});
  CHECK(files.paths == Texts{dir / "d/a.txt", dir / "d/same words.txt"});
  CHECK(files.left_out == Texts{dir / "d/b.txt" + same, dir / "d/c.txt" + same});

  files = list_text_files({dir / "d/a.txt", dir / "d/../d/a.txt", dir / "d", dir / "d"});
  CHECK(files.paths == Texts{dir / "d/a.txt", dir / "d/same words.txt"});
  CHECK(files.left_out == Texts{dir / "d/../d/a.txt" + same, dir / "d/a.txt" + same, dir / "d/b.txt" + same,
                                dir / "d/c.txt" + same, dir / "d: the same directory as " + (dir / "d")});
}

TEST_CASE("a link to nothing or to itself is an error that names it") {
  const TemporaryDirectory dir;
  write_file(dir / "d/a.txt", "x");
  fs::create_symlink("gone.txt", dir / "d/b.txt");
  check_error([&] { list_text_files({dir / "d"}); }, {"d/b.txt", "link to gone.txt"});
  check_error([&] { list_text_files({dir / "d/b.txt"}); }, {"d/b.txt", "link to gone.txt"});
  fs::remove(dir / "d/b.txt");
  fs::create_symlink("loop", dir / "d/loop");
  check_error([&] { list_text_files({dir / "d"}); }, {"d/loop", "link to loop"});
}
