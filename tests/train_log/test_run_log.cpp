// log.jsonl: what a row looks like, and that a resumed run's log has each step once.
#include <unistd.h>

#include <array>
#include "tests/catch.h"
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "train/run_log.h"

using namespace strand;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
struct LogPath {
  std::string path = (fs::temp_directory_path() / fmt::format("strand_run_log_{}.jsonl", getpid())).string();
  ~LogPath() { fs::remove(path); }

  std::string text() const {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }
  void put(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
};

std::string open_error(const std::string& path, int64_t first_step) {
  try {
    RunLog(path, first_step);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}
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

TEST_CASE("A file that is no log is refused and left alone") {
  const LogPath log;
  for (const std::string line : {"not json", "[1]", "{\"loss\":1}", "{\"step\":\"1\"}", "{\"step\":1.5}", ""}) {
    const std::string text = "{\"step\":0}\n" + line + "\n{\"step\":2}\n";
    log.put(text);
    CHECK_THAT(open_error(log.path, 1), Contains(log.path + ":2: not a log row"));
    CHECK(log.text() == text);
  }
}
