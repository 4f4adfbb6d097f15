// Files that survive a power cut once they are written.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <thread>

#include "core/file_io.h"
#include "fixtures.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
/// Accepts at most `limit` bytes a write, and interrupts every other one.
class GrudgingLayer : public FileLayer {
 public:
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (calls_++ % 2 == 0) {
      errno = EINTR;
      return -1;
    }
    return FileLayer::write(descriptor, bytes, std::min<size_t>(count, 3));
  }

 private:
  int calls_ = 0;
};

class FullDisk : public FileLayer {
 public:
  ssize_t write(int, const void*, size_t) override {
    errno = ENOSPC;
    return -1;
  }
};
}  // namespace

TEST_CASE("The digest is XXH3-64 as xxhsum prints it") {
  // Published: the hash of nothing under seed 0 (the test vectors of xxHash's own sanity check).
  CHECK(DigestStream().digest() == FileDigest{0, "2d06800538d394c2"});
  DigestStream pieces, whole;
  pieces.add("stra", 4);
  pieces.add("nd", 2);
  whole.add("strand", 6);
  CHECK(pieces.digest() == whole.digest());
  CHECK(pieces.digest().bytes == 6);
}

TEST_CASE("The digest of a file around the block that is read at a time") {
  const TemporaryDirectory directory;
  for (const size_t bytes :
       {digest_block_bytes - 1, digest_block_bytes, digest_block_bytes + 1, digest_block_bytes * 5 / 2}) {
    std::string text(bytes, 'a');
    for (size_t i = 0; i < bytes; i += 1000) text[i] = static_cast<char>(i / 1000);
    put(directory / "file", text);
    DigestStream whole;
    whole.add(text.data(), text.size());
    CHECK(digest_of_file(directory / "file") == whole.digest());
    CHECK(read_file(directory / "file", bytes) == text);
  }
}

TEST_CASE("All that comes out of a pipe is read, around the block that is read at a time, up to the limit") {
  const TemporaryDirectory directory;
  const std::string pipe = directory / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  for (const size_t bytes :
       {size_t{0}, piped_block_bytes - 1, piped_block_bytes, piped_block_bytes + 1, piped_block_bytes * 5 / 2}) {
    std::string text(bytes, 'a');
    for (size_t i = 0; i < bytes; i += 1000) text[i] = static_cast<char>(i / 1000);
    const auto read = [&](uint64_t limit) {
      std::thread writer([&] { std::ofstream(pipe, std::ios::binary) << text; });
      std::string result;
      try {
        result = read_file(pipe, limit);
      } catch (const Error& error) {
        result = error.what();
      }
      writer.join();
      return result;
    };
    CHECK((read(bytes) == text));
    if (bytes > 0) CHECK_THAT(read(bytes - 1), Catch::Contains("gives more than " + std::to_string(bytes - 1)));
  }
}

TEST_CASE("A file appears whole or not at all") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  {
    AtomicFile file(path);
    file.write("half");
    CHECK_FALSE(fs::exists(path));
  }
  CHECK(fs::is_empty(directory.path()));
  const FileDigest digest = write_file_atomically(path, "first");
  CHECK(digest == digest_of_file(path));
  write_file_atomically(path, "second");
  CHECK(get(path) == "second");
  {
    FullDisk full;
    const InterposedFileLayer interposed(full);
    CHECK_THAT(error_of([&] { write_file_atomically(path, "third"); }), Contains("No space left"));
  }
  CHECK(get(path) == "second");
  CHECK(std::distance(fs::directory_iterator(directory.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("Short and interrupted writes are continued") {
  const TemporaryDirectory directory;
  GrudgingLayer layer;
  const InterposedFileLayer interposed(layer);
  write_file_atomically(directory / "file", "a sentence of some length");
  CHECK(get(directory / "file") == "a sentence of some length");
}

TEST_CASE("Files are read within a limit, directories made and removed") {
  const TemporaryDirectory directory;
  put(directory / "file", "12345");
  CHECK(read_file(directory / "file", 5) == "12345");
  CHECK_THAT(error_of([&] { read_file(directory / "file", 4); }), Contains("at most 4"));
  CHECK_THAT(error_of([&] { read_file(directory / "absent", 4); }), Contains("No such file"));
  CHECK_THAT(error_of([&] { read_file(directory.path(), 4); }), Contains("directory"));
  make_directories(directory / "a/b/c");
  make_directories(directory / "a/b");
  CHECK(fs::is_directory(directory / "a/b/c"));
  CHECK_THAT(error_of([&] { make_directories(directory / "file/x"); }), Contains("cannot create directory"));
  fs::create_symlink(directory / "file", directory / "a/link");
  remove_tree(directory / "a");
  CHECK_FALSE(fs::exists(directory / "a"));
  CHECK(fs::exists(directory / "file"));
  CHECK(parent_directory("x") == ".");
  CHECK(parent_directory("/x/y/") == "/x");
}
