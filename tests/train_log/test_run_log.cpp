// log.jsonl: what a row looks like, and that a resumed run's log has each step once.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/catch.h"
#include "train/run_log.h"

using namespace strand;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
struct LogPath {
  std::string path = (fs::temp_directory_path() / fmt::format("strand_run_log_{}.jsonl", getpid())).string();
  ~LogPath() { clear(); }

  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }
  /// What was put aside, oldest first.
  std::vector<std::string> aside() const {
    std::vector<std::string> texts;
    for (std::string name = path + ".damaged"; fs::exists(name);
         name = fmt::format("{}.damaged.{}", path, texts.size() + 1)) {
      std::ostringstream out;
      out << std::ifstream(name, std::ios::binary).rdbuf();
      texts.push_back(out.str());
    }
    return texts;
  }
  void clear() const {
    for (const auto& entry : fs::directory_iterator(fs::path(path).parent_path()))
      if (entry.path().string().starts_with(path)) fs::remove_all(entry.path());
  }
  void put(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
};
}  // namespace

TEST_CASE("A row keeps the order of its keys") {
  const std::array<double, 4> load{0.25, 0.75, 1.0, 0.0};
  const std::string row = LogRow(7)
                              .add("loss", 2.5)
                              .add("tokens", int64_t{1} << 40)
                              .add("note", "a \"b\"\n")
                              .add("load", load)
                              .add("expert_load", load, 2)
                              .json();
  CHECK(row == R"({"step":7,"loss":2.5,"tokens":1099511627776,"note":"a \"b\"\n","load":[0.25,0.75,1,0],)"
               R"("expert_load":[[0.25,0.75],[1,0]]})");
  CHECK_THROWS_WITH(LogRow(7).add("x", load, 3), Contains("no rows of 3"));
}

TEST_CASE("Numbers come back with the same bits; what is no number is null") {
  for (const double value : {0.1, 1.0 / 3.0, 6.02214076e23, 5e-324, std::nextafter(1.0, 2.0), -1e-7, 123456789.0}) {
    const auto row = nlohmann::json::parse(LogRow(0).add("x", value).json());
    CHECK(row["x"].get<double>() == value);
  }
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  CHECK(LogRow(0).add("a", nan).add("b", infinity).add("c", -infinity).json() ==
        R"({"step":0,"a":null,"b":null,"c":null})");
}

TEST_CASE("A row is in the file when write returns") {
  const LogPath log;
  RunLog out(log.path, 0);
  out.write(LogRow(0).add("loss", 1.5));
  CHECK(log.text() == "{\"step\":0,\"loss\":1.5}\n");
  out.write(LogRow(1));
  out.sync();
  CHECK(log.text() == "{\"step\":0,\"loss\":1.5}\n{\"step\":1}\n");
}

TEST_CASE("Opening at a step drops the rows from there on, byte-exactly keeping the others") {
  const LogPath log;
  log.put("{\"step\":0,\"loss\":1.50}\n{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
  {
    RunLog resumed(log.path, 2);
    CHECK(resumed.dropped() == 2);
    resumed.write(LogRow(2).add("loss", 0.5));
  }
  CHECK(log.text() == "{\"step\":0,\"loss\":1.50}\n{\"step\":1}\n{\"step\":2,\"loss\":0.5}\n");
  CHECK(RunLog(log.path, 3).dropped() == 0);
  CHECK(RunLog(log.path, 0).dropped() == 3);
  CHECK(log.text().empty());
}

TEST_CASE("A last line that was cut off goes, whatever it says") {
  const LogPath log;
  for (const std::string tail : {"{\"st", "{\"step\":1}", "x"}) {
    log.put("{\"step\":0}\n" + tail);
    CHECK(RunLog(log.path, 5).dropped() == 1);
    CHECK(log.text() == "{\"step\":0}\n");
  }
}

TEST_CASE("Lines that are no rows go aside with a copy of the whole file, and the rows stay") {
  const LogPath log;
  const std::string zeros(3, '\0');
  for (const std::string& line :
       {std::string("not json"), std::string("[1]"), std::string("{\"loss\":1}"), std::string("{\"step\":\"1\"}"),
        std::string("{\"step\":1.5}"), std::string("{\"step\":-1}"), std::string("{\"step\":18446744073709551615}"),
        std::string("{\"step\":1,\"lo"), std::string("\xff\xfe"), zeros, std::string(" "), std::string()}) {
    INFO("the line \"" << line << '"');
    const std::string text = "{\"step\":0}\n" + line + "\n{\"step\":1,\"loss\":2.50}\n{\"step\":2}\n";
    log.put(text);
    CHECK(RunLog(log.path, 2).dropped() == 1);
    CHECK(log.text() == "{\"step\":0}\n{\"step\":1,\"loss\":2.50}\n");
    CHECK(log.aside() == std::vector<std::string>{text});
    log.clear();
  }
}

TEST_CASE("A damaged log is put aside whole, around the block that is copied at a time") {
  const LogPath log;
  constexpr size_t block = RunLog::copied_bytes;
  for (const size_t bytes : {block - 1, block, block + 1, 5 * block / 2}) {
    const std::string row = "{\"step\":0}\n", end = "\n{\"step\":1}\n";
    std::string text = row + std::string(bytes - row.size() - end.size(), 'x') + end;
    for (size_t i = row.size(); i + end.size() < bytes; i += 1000) text[i] = static_cast<char>('a' + i / 1000 % 26);
    log.put(text);
    CHECK(RunLog(log.path, 5).dropped() == 0);
    CHECK(log.text() == "{\"step\":0}\n{\"step\":1}\n");
    CHECK((log.aside() == std::vector<std::string>{text}));
    log.clear();
  }
}

TEST_CASE("No damaged log takes the place of another, and a whole one puts nothing aside") {
  const LogPath log;
  for (const std::string text : {"one\n", "two\n", "three\n"}) {
    log.put(text);
    RunLog(log.path, 1);
  }
  CHECK(log.aside() == std::vector<std::string>{"one\n", "two\n", "three\n"});
  log.clear();
  log.put("\xef\xbb\xbf{\"step\":0}\r\n{\"step\":1}\r\n");  // as an editor on another system leaves it
  CHECK(RunLog(log.path, 5).dropped() == 0);
  CHECK(log.text() == "\xef\xbb\xbf{\"step\":0}\r\n{\"step\":1}\r\n");
  CHECK(log.aside().empty());
}

TEST_CASE("A log that cannot be read as a file is moved away, and a new one begins") {
  const LogPath log;
  const std::string kind = GENERATE("directory", "dangling link", "pipe");
  INFO(kind);
  if (kind == "directory") fs::create_directory(log.path);
  if (kind == "dangling link") fs::create_symlink("nothing", log.path);
  if (kind == "pipe") REQUIRE(mkfifo(log.path.c_str(), 0600) == 0);
  const fs::file_type before = fs::symlink_status(log.path).type();
  RunLog(log.path, 3).write(LogRow(3));
  CHECK(log.text() == "{\"step\":3}\n");
  CHECK(fs::symlink_status(log.path + ".damaged").type() == before);
}

TEST_CASE("Rows that are not in order are put in order, and of several rows of a step the last one stays") {
  const LogPath log;
  const std::string text =
      "{\"step\":3}\n{\"step\":1}\n{\"step\":2,\"loss\":1}\n{\"step\":2,\"loss\":2.50}\n{\"step\":4}\n";
  log.put(text);
  CHECK(RunLog(log.path, 4).dropped() == 1);
  CHECK(log.text() == "{\"step\":1}\n{\"step\":2,\"loss\":2.50}\n{\"step\":3}\n");
  CHECK(log.aside() == std::vector<std::string>{text});
}

TEST_CASE("A log that may not be written gives its rows to a new one") {
  const LogPath log;
  const fs::path directory = log.path + ".directory", path = directory / "log.jsonl";
  fs::create_directory(directory);
  const std::string text = "{\"step\":0}\n{\"step\":1}\n";
  std::ofstream(path) << text;
  fs::permissions(path, fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  fs::permissions(directory, fs::perms::all);
  constexpr uid_t nobody = 65534;  // root may write to every file
  const bool root = geteuid() == 0;
  if (root) REQUIRE(seteuid(nobody) == 0);
  RunLog(path.string(), 2).write(LogRow(2));
  if (root) REQUIRE(seteuid(0) == 0);
  const auto text_of = [](const fs::path& file) {
    std::ostringstream out;
    out << std::ifstream(file).rdbuf();
    return out.str();
  };
  CHECK(text_of(path) == text + "{\"step\":2}\n");
  CHECK(text_of(path.string() + ".damaged") == text);
}

namespace {
/// A file layer whose disk takes only so many bytes more.
class SmallDisk : public FileLayer {
 public:
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (room == 0) return errno = ENOSPC, -1;
    const ssize_t done = FileLayer::write(descriptor, bytes, std::min(count, room));
    if (done > 0) room -= static_cast<size_t>(done);
    return done;
  }
  size_t room = SIZE_MAX;
};
}  // namespace

TEST_CASE("What the system does not take is written when it does, in its order") {
  const LogPath log;
  SmallDisk disk;
  const InterposedFileLayer interposed(disk);
  DiagnosticFile file(log.path);
  file.write("one\n");
  disk.room = 6;
  for (const char* text : {"two\n", "three\n", "four\n"}) file.write(text);
  CHECK(log.text() == "one\ntwo\n");
  CHECK_THROWS_WITH(file.finish(), Contains("lacks 11 bytes") && Contains("No space left on device"));
  disk.room = 5;
  file.write("five\n");
  CHECK(log.text() == "one\ntwo\n");
  disk.room = SIZE_MAX;
  file.sync();
  CHECK(log.text() == "one\ntwo\nthree\nfour\nfive\n");
  CHECK_NOTHROW(file.finish());
}

TEST_CASE("A file that takes nothing any more costs no more memory than its limit") {
  const LogPath log;
  SmallDisk disk;
  const InterposedFileLayer interposed(disk);
  DiagnosticFile file(log.path);
  disk.room = 0;
  const std::string kept(DiagnosticFile::most_kept - 3, 'x');
  file.write(kept);
  file.write("abc");
  file.write("lost");
  disk.room = SIZE_MAX;
  file.write("lost, too");
  file.write("end");
  CHECK((log.text() == kept + "abcend"));
  CHECK_THROWS_WITH(file.finish(), Contains("lacks 13 bytes"));
}
