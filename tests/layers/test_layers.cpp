// The layer rule, on the #include lines of every source file: core ← kernels ← model ← train ← cli; config, data,
// parallel and checkpoint stand on core (parallel also on kernels), chat on data, and export on config, chat and
// checkpoint; eval, infer, analysis and report stand on model, report also on export, and tasks on infer; run_report on
// core and config.
// Nothing includes upwards.
#include <algorithm>
#include "tests/catch.h"
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {
namespace fs = std::filesystem;
using Rooms = std::set<std::string>;

/// What each room may include, itself aside.
const std::map<std::string, Rooms>& allowed() {
  static const std::map<std::string, Rooms> rooms = [] {
    std::map<std::string, Rooms> r;
    r["core"] = {};
    r["kernels"] = {"core"};
    r["config"] = r["data"] = r["checkpoint"] = {"core"};
    r["chat"] = {"core", "data"};
    r["parallel"] = {"core", "kernels"};
    r["export"] = {"core", "config", "data", "chat", "checkpoint"};
    r["model"] = {"core", "kernels", "config", "parallel"};
    r["eval"] = r["infer"] = r["analysis"] = r["report"] = {"core", "kernels", "config", "parallel", "model", "data", "checkpoint"};
    r["tasks"] = {"core", "kernels", "config", "parallel", "model", "data", "checkpoint", "infer"};
    r["train"] = {"core", "kernels", "config", "parallel", "model", "data", "chat", "checkpoint", "eval", "infer", "analysis", "report"};
    r["run_report"] = {"core", "config"};
    r["train"].insert("run_report");
    r["report"].insert({"chat", "export"});
    r["data_tools"] = {"core", "data"};
    Rooms everything;
    for (const auto& [room, below] : r) everything.insert(room);
    r["cli"] = everything;
    return r;
  }();
  return rooms;
}

const Rooms backends = {"cpu", "cuda", "plan", "reference"};

std::vector<std::string> parts_of(const std::string& path) {
  std::vector<std::string> parts;
  std::istringstream in(path);
  for (std::string part; std::getline(in, part, '/');) parts.push_back(part);
  return parts;
}

/// "src/model/head.cpp" → model; "kernels/cpu/norm.cpp" → kernels.
std::string room_of(const std::string& file) {
  const std::vector<std::string> parts = parts_of(file);
  return parts.at(parts.at(0) == "src" ? 1 : 0);
}

/// "kernels/cpu/norm.h" → cpu; "" when the path is of no backend.
std::string backend_of(const std::string& path) {
  const std::vector<std::string> parts = parts_of(path);
  return parts.size() > 2 && parts[0] == "kernels" && backends.contains(parts[1]) ? parts[1] : "";
}

/// The paths of `#include "..."` lines.
std::vector<std::string> includes(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    line.erase(std::remove_if(line.begin(), line.end(), [](char c) { return c == ' ' || c == '\t'; }), line.end());
    const std::string start = "#include\"";
    if (line.starts_with(start))
      found.push_back(line.substr(start.size(), line.find('"', start.size()) - start.size()));
  }
  return found;
}

/// Kernels of a backend know no other backend. The model is written for all of them: only backend.cpp makes one, and a
/// session runs its step on the plan.
bool may_name_backend(const std::string& file, const std::string& backend) {
  if (room_of(file) == "kernels") return backend_of(file) == backend;
  return room_of(file) != "model" || file == "src/model/backend.cpp" || backend == "plan";
}

/// cmake/StrandCommit.cmake writes it.
constexpr const char* written_by_the_build = "commit.h";

/// What is wrong with the include lines of one file.
std::vector<std::string> violations(const std::string& file, const std::string& text) {
  std::vector<std::string> wrong;
  const std::string room = room_of(file);
  if (!allowed().contains(room)) return {file + ": the layer rule does not know the room " + room};
  for (const std::string& path : includes(text)) {
    if (path == written_by_the_build) continue;
    const std::string target = parts_of(path).at(0), line = file + " includes " + path;
    if (!allowed().contains(target) || path.find('/') == std::string::npos || path.find("..") != std::string::npos)
      wrong.push_back(line + ", which is no path from src/ or the root");
    else if (target != room && !allowed().at(room).contains(target))
      wrong.push_back(line + ": " + room + " does not stand on " + target);
    else if (const std::string backend = backend_of(path); !backend.empty() && !may_name_backend(file, backend))
      wrong.push_back(line + ": not this file's backend");
  }
  return wrong;
}

std::vector<fs::path> sources() {
  const Rooms endings = {".h", ".cpp", ".cu", ".cuh"};
  std::vector<fs::path> files;
  for (const char* root : {"src", "kernels", "data_tools"})
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(STRAND_SOURCE_DIR) / root))
      if (entry.is_regular_file() && endings.contains(entry.path().extension().string())) files.push_back(entry.path());
  return files;
}

TEST_CASE("Nothing includes upwards") {
  const std::vector<fs::path> files = sources();
  CHECK(files.size() > 100);
  std::string wrong;
  for (const fs::path& file : files) {
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    for (const std::string& line : violations(fs::relative(file, STRAND_SOURCE_DIR).generic_string(), text.str()))
      wrong += line + "\n";
  }
  INFO(wrong);
  CHECK(wrong.empty());
}

TEST_CASE("The rule itself: what it lets through and what it stops") {
  const auto count = [](const char* file, const char* text) { return violations(file, text).size(); };
  CHECK(count("src/train/step.cpp", "#include \"model/session.h\"\n#include <vector>\n#include \"train/step.h\"\n") ==
        0);
  CHECK(count("src/model/head.h", "#include \"train/step.h\"\n") == 1);
  CHECK(count("src/model/head.h", "  #  include   \"train/step.h\" // why\n") == 1);
  CHECK(count("src/core/arena.h", "#include \"kernels/ops.h\"\n#include \"config/config.h\"\n") == 2);
  CHECK(count("kernels/ops.h", "#include \"config/config.h\"\n") == 1);
  CHECK(count("src/parallel/communicator.h", "#include \"kernels/ops.h\"\n") == 0);
  CHECK(count("src/data/sampler.h", "#include \"config/config.h\"\n") == 1);
  CHECK(count("src/eval/loss.cpp", "#include \"train/step.h\"\n") == 1);
  CHECK(count("src/cli/main.cpp", "#include \"train/step.h\"\n#include \"infer/generate.h\"\n") == 0);
  CHECK(count("kernels/cpu/norm.cpp", "#include \"kernels/cpu/simd.h\"\n#include \"kernels/reference/top_k.h\"\n") ==
        1);
  CHECK(count("src/model/backend.cpp", "#include \"kernels/cpu/cpu_ops.h\"\n") == 0);
  CHECK(count("src/model/head.cpp", "#include \"kernels/cpu/cpu_ops.h\"\n") == 1);
  CHECK(count("src/model/head.cpp", "#include \"head.h\"\n") == 1);
  CHECK(count("src/model/head.cpp", "#include \"../train/step.h\"\n") == 1);
  CHECK(count("src/attic/old.cpp", "") == 1);
}

}  // namespace
