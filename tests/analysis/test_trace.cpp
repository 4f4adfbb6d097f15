// Traces as files: what was written is read, and a file that is no trace is refused with a reason.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "analysis/trace.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("strand_trace_" + std::to_string(getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

Trace example() {
  Trace trace = uneven_trace(24, 3, 300, 2, 4, 5);
  trace.model = "runs/a@7";
  trace.step = 7;
  trace.layers = {1, 2, 3};
  trace.domains = {{"text", 2}, {"code \"x\"", 4}};
  for (size_t t = 0; t < 24; ++t) {
    trace.tokens[t] = static_cast<int32_t>(t * 1000);
    trace.next[t] = static_cast<int32_t>(t) - 1;
    trace.predicted[t] = static_cast<int32_t>(t * t);
  }
  return trace;
}
}  // namespace

TEST_CASE("A trace comes back as it was written") {
  const Folder folder;
  const Trace trace = example();
  write_trace(folder.file("t.safetensors"), trace);
  const Trace read = read_trace(folder.file("t.safetensors"));
  CHECK(read.model == trace.model);
  CHECK(read.step == trace.step);
  CHECK(read.sequence_length == trace.sequence_length);
  CHECK(read.num_experts == trace.num_experts);
  CHECK(read.top_k == trace.top_k);
  CHECK(read.layers == trace.layers);
  CHECK(read.domains == trace.domains);
  CHECK(read.experts == trace.experts);
  CHECK(read.tokens == trace.tokens);
  CHECK(read.next == trace.next);
  CHECK(read.predicted == trace.predicted);
}

TEST_CASE("The file is as docs/analysis.md says") {
  const Folder folder;
  write_trace(folder.file("t.safetensors"), example());
  const SafetensorsFile file(folder.file("t.safetensors"));
  REQUIRE(file.find("experts") != nullptr);
  CHECK(file.find("experts")->dtype == "U16");
  CHECK(file.find("experts")->shape == std::vector<int64_t>{24, 3, 2});
  for (const char* name : {"tokens", "next", "predicted"}) {
    REQUIRE(file.find(name) != nullptr);
    CHECK(file.find(name)->dtype == "I32");
    CHECK(file.find(name)->shape == std::vector<int64_t>{24});
  }
  const auto& metadata = file.metadata();
  CHECK(metadata.at("format") == "strand-trace-1");
  CHECK(metadata.at("step") == "7");
  CHECK(metadata.at("sequence_length") == "4");
  CHECK(metadata.at("num_experts") == "300");
  CHECK(metadata.at("layers") == "[1,2,3]");
  CHECK(metadata.at("domains") == R"([{"name":"text","sequences":2},{"name":"code \"x\"","sequences":4}])");
}

TEST_CASE("Traces that do not fit together are refused") {
  const auto refused = [](const std::function<void(Trace&)>& spoil, const std::string& why) {
    Trace trace = example();
    spoil(trace);
    CHECK_THROWS_WITH(check_trace(trace, "here"), Contains("here") && Contains(why));
  };
  refused([](Trace& t) { t.experts[7] = 300; }, "token 1 does not have 2 different experts below 300 in layer 1");
  refused([](Trace& t) { t.experts[3] = t.experts[2]; }, "token 0 does not have 2 different experts");
  refused([](Trace& t) { t.domains[0].sequences = 3; }, "24 tokens, and its domains have 7 sequences of 4");
  refused([](Trace& t) { t.next.pop_back(); }, "the same number of tokens");
  refused([](Trace& t) { t.num_experts = 70000; }, "70000 experts");
  refused([](Trace& t) { t.top_k = 301; }, "301 experts for a token, of 300");
  refused([](Trace& t) { t.sequence_length = 0; }, "sequences of 0 tokens");
  refused([](Trace& t) { t.domains[1].sequences = -1; }, "-1 sequences");
}

TEST_CASE("A file that is no trace is refused, naming the file and what is wrong") {
  const Folder folder;
  const std::string path = folder.file("other.safetensors");
  const std::vector<int32_t> ids(6);
  const auto write = [&](const std::map<std::string, std::string>& metadata) {
    NamedTensor tensor;
    tensor.name = "experts";
    tensor.dtype = DType::i32;
    tensor.shape = {3, 1, 2};
    tensor.read = [&](void* host, size_t offset, size_t bytes) {
      std::memcpy(host, reinterpret_cast<const char*>(ids.data()) + offset, bytes);
    };
    write_safetensors(path, std::vector<NamedTensor>{tensor}, metadata);
  };
  std::map<std::string, std::string> metadata = {
      {"format", "strand-trace-1"}, {"model", "m"},    {"step", "0"},    {"sequence_length", "3"},
      {"num_experts", "4"},         {"layers", "[0]"}, {"domains", "[]"}};
  const auto refused = [&](const std::string& key, const std::string& value, const std::string& why) {
    auto spoiled = metadata;
    if (value.empty())
      spoiled.erase(key);
    else
      spoiled[key] = value;
    write(spoiled);
    CHECK_THROWS_WITH(read_trace(path), Contains("other.safetensors") && Contains(why));
  };
  refused("format", "", "no entry \"format\"");
  refused("format", "strand-trace-9", "strand-trace-9");
  refused("step", "many", "step = \"many\"");
  refused("step", "-1", "step = \"-1\"");
  refused("layers", "[0", "layers or domains");
  refused("domains", "[1]", "layers or domains");
  refused("model", "m", "tensor \"experts\" is I32 [3, 1, 2], and U16 [3, 1, 2] is needed");
}
