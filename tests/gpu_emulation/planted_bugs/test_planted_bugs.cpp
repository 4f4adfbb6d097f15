// The emulation sees slips in the product's own kernels: every bug of the list (kernel_bugs.h), planted in a copy of
// its kernel's source, makes the test case fail that is named beside it, and there is one for every kernel. The cases
// ([case]) are in this program; without a bug, they pass.
#include <sys/wait.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/planted_bugs/kernel_bugs.h"
#include "tests/catch.h"

using planted_bugs::KernelBug;
using planted_bugs::SeenBy;

namespace {

const std::filesystem::path sources = STRAND_SOURCE_DIR "/kernels/cuda";

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// "file: kernel" of every kernel that a source defines: the word before the parameters, which may follow the bounds of
/// its launches, __launch_bounds__(...).
std::set<std::string> kernels_in(const std::filesystem::path& path) {
  const std::string text = text_of(path), bounds = "__launch_bounds__";
  std::set<std::string> found;
  for (size_t at = text.find("__global__"); at != std::string::npos; at = text.find("__global__", at + 1)) {
    size_t open = text.find('(', at);
    if (text.compare(open - bounds.size(), bounds.size(), bounds) == 0) {
      int depth = 1;
      while (depth > 0) depth += text[++open] == '(' ? 1 : text[open] == ')' ? -1 : 0;
      open = text.find('(', open);
    }
    size_t begin = open;
    while (std::isalnum(static_cast<unsigned char>(text[begin - 1])) || text[begin - 1] == '_') --begin;
    found.insert(path.filename().string() + ": " + text.substr(begin, open - begin));
  }
  return found;
}

std::set<std::string> all_kernels() {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(sources))
    if (entry.path().extension() == ".cu" || entry.path().extension() == ".cuh") found.merge(kernels_in(entry.path()));
  return found;
}

struct Outcome {
  bool failed;
  std::string output;
};

/// Runs a case of this program in a process of its own, with bug number `bug` planted.
Outcome run_case(const std::string& name, size_t bug) {
  const std::string command = "STRAND_PLANTED_BUG=" + std::to_string(bug) + " timeout 120 '" +
                              std::filesystem::read_symlink("/proc/self/exe").string() + "' '" + name + "' 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome{};
  std::array<char, 4096> part{};
  while (const size_t n = fread(part.data(), 1, part.size(), pipe)) outcome.output.append(part.data(), n);
  const int status = pclose(pipe);
  outcome.failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
  return outcome;
}

bool must_be_seen(const KernelBug& bug) {
  return bug.seen == SeenBy::every_way || gpu_emulation::checker_on;
}

}  // namespace

TEST_CASE("there is a bug for every kernel", "[list]") {
  std::set<std::string> with_bug;
  for (const KernelBug& bug : planted_bugs::all())
    if (!bug.kernel.empty()) with_bug.insert(bug.file + ": " + bug.kernel);
  const std::set<std::string> kernels = all_kernels();
  CHECK(kernels == with_bug);

  // The table of what kernels cost names the same ones, however it was made.
  std::set<std::string> names, in_table;
  for (const std::string& kernel : kernels) names.insert(kernel.substr(kernel.find(' ') + 1));
  std::ifstream table(sources / "kernel_table.txt");
  for (std::string line; std::getline(table, line);)
    if (!line.empty() && line[0] != '#') in_table.insert(line.substr(0, line.find_first_of("< ")));
  CHECK(names == in_table);
}

TEST_CASE("every bug still has its place in the sources", "[list]") {
  std::set<std::string> files;
  for (const KernelBug& bug : planted_bugs::all()) files.insert(bug.file);
  for (const std::string& file : files) {
    std::vector<int> missing;
    planted_bugs::with_bugs(file, text_of(sources / file), missing);
    for (int i : missing) {
      const KernelBug& bug = planted_bugs::all()[static_cast<size_t>(i)];
      FAIL_CHECK(file << " has changed: \"" << bug.from << "\" is not found behind \"" << bug.after << "\"; plant \""
                      << bug.what << "\" anew (tests/gpu_emulation/planted_bugs)");
    }
  }
}

TEST_CASE("every planted bug is seen", "[bugs]") {
  const char* shown = std::getenv("SHOW_OUTCOMES");  // of all, for whoever adds one
  for (size_t i = 0; i < planted_bugs::all().size(); ++i) {
    const KernelBug& bug = planted_bugs::all()[i];
    if (!must_be_seen(bug) && shown == nullptr) continue;
    const Outcome outcome = run_case(bug.test, i);
    INFO("number " << i << ", " << bug.file << ", " << bug.kernel << ": " << bug.what << "; case \"" << bug.test
                   << "\"");
    if (shown != nullptr) WARN((outcome.failed ? "seen: " : "not seen: ") << outcome.output);
    if (!must_be_seen(bug)) continue;
    CHECK(outcome.failed);
    CHECK_THAT(outcome.output, !Catch::Contains("No test cases matched") && !Catch::Contains("No test ran"));
  }
}
