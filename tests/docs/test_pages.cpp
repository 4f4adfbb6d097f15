// The documentation as files: links lead somewhere, excerpts of code are the code, the README is short.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace {
namespace fs = std::filesystem;
const fs::path root = STRAND_SOURCE_DIR;

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::istringstream in(contents(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The files of the repository whose names end in `ending`, without those that a build or a run makes.
std::vector<fs::path> files_that_end_in(const std::string& ending) {
  std::vector<fs::path> found;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename().string();
    const bool made = it.depth() == 0 && (name.rfind("build", 0) == 0 || name == "data" || name == "runs");
    if (made || name == ".git" || name == ".cache") {
      if (it->is_directory()) it.disable_recursion_pending();
      continue;
    }
    if (it->is_regular_file() && name.size() >= ending.size() &&
        name.compare(name.size() - ending.size(), ending.size(), ending) == 0)
      found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

struct Fence {
  std::string language, path;
  std::string text;
};

/// A page, split into its text without fenced blocks and these blocks.
struct Page {
  std::vector<std::string> prose;
  std::vector<Fence> fences;

  explicit Page(const fs::path& path) {
    bool inside = false;
    for (const std::string& line : lines_of(path)) {
      if (line.rfind("```", 0) == 0) {
        inside = !inside;
        if (!inside) continue;
        std::istringstream info(line.substr(3));
        Fence fence;
        info >> fence.language >> fence.path;
        fences.push_back(fence);
      } else if (inside) {
        fences.back().text += line + "\n";
      } else {
        prose.push_back(line);
      }
    }
  }

  /// The anchors of the headings, as GitHub makes them: lower case, hyphens for blanks, punctuation left out.
  std::set<std::string> anchors() const {
    std::set<std::string> all;
    for (const std::string& line : prose) {
      const size_t level = line.find_first_not_of('#');
      if (level == 0 || level == std::string::npos || line[level] != ' ') continue;
      std::string anchor;
      for (const char c : line.substr(level + 1)) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isalnum(byte) || c == '-' || c == '_' || byte >= 0x80)
          anchor += static_cast<char>(std::tolower(byte));
        else if (c == ' ')
          anchor += '-';
      }
      all.insert(anchor);
    }
    return all;
  }

  std::vector<std::string> links() const {
    static const std::regex link(R"(\]\(([^)\s]+)\))");
    std::vector<std::string> all;
    for (const std::string& line : prose) {
      for (auto it = std::sregex_iterator(line.begin(), line.end(), link); it != std::sregex_iterator(); ++it)
        all.push_back((*it)[1]);
    }
    return all;
  }
};
}  // namespace

TEST_CASE("every link of every page leads to a file, and to a heading where it names one") {
  size_t links = 0;
  for (const fs::path& path : files_that_end_in(".md")) {
    const Page page(path);
    for (const std::string& link : page.links()) {
      if (link.find("://") != std::string::npos) continue;
      INFO(path.string() << " links to " << link);
      ++links;
      const size_t hash = link.find('#');
      const std::string file = link.substr(0, hash);
      const fs::path target = file.empty() ? path : path.parent_path() / file;
      CHECK(fs::exists(target));
      if (hash == std::string::npos || !fs::is_regular_file(target)) continue;
      CHECK(Page(target).anchors().count(link.substr(hash + 1)) == 1);
    }
  }
  CHECK(links > 30);
}

TEST_CASE("operations of a block are computed in the files that the page on steps names") {
  // | `AddRmsNorm` | what it does | `norm.cpp` | `norm.cu` |
  const std::regex row(R"(\| `(\w+)` \| .* \| `(\w+\.cpp)` \| `(\w+\.c\w+)` \|)");
  size_t operations = 0;
  for (const std::string& line : lines_of(root / "docs" / "how-a-step-works.md")) {
    std::smatch cells;
    if (!std::regex_match(line, cells, row)) continue;
    INFO(line);
    ++operations;
    const std::string run = "run(const " + cells[1].str() + "& ";
    CHECK(contents(root / "kernels" / "cpu" / cells[2].str()).find(run) != std::string::npos);
    CHECK(contents(root / "kernels" / "cuda" / cells[3].str()).find(run) != std::string::npos);
  }
  CHECK(operations > 30);
}

TEST_CASE("excerpts of source files are in these files, letter by letter") {
  size_t excerpts = 0;
  for (const fs::path& path : files_that_end_in(".md")) {
    for (const Fence& fence : Page(path).fences) {
      if (fence.path.empty()) continue;
      INFO(path.string() << " quotes " << fence.path << ":\n" << fence.text);
      ++excerpts;
      CHECK(contents(root / fence.path).find(fence.text) != std::string::npos);
    }
  }
  CHECK(excerpts > 5);
}

TEST_CASE("files that pages name in their text are there") {
  static const std::regex named(
      "`((src|kernels|tests|scripts|configs|cmake|data_tools|docs)/[A-Za-z0-9_./-]+[A-Za-z])`");
  size_t files = 0;
  for (const fs::path& path : files_that_end_in(".md")) {
    for (const std::string& line : Page(path).prose) {
      for (auto it = std::sregex_iterator(line.begin(), line.end(), named); it != std::sregex_iterator(); ++it) {
        const std::string file = (*it)[1];
        if (file.find("FAMILY") != std::string::npos || fs::path(file).extension() == ".txt")
          continue;  // made, or a pattern
        INFO(path.string() << " names " << file);
        ++files;
        // A program of tests may be named without the ending of its source.
        CHECK((fs::exists(root / file) || fs::exists(root / (file + ".cpp")) || fs::exists(root / (file + ".h"))));
      }
    }
  }
  CHECK(files > 30);
}

TEST_CASE("every fenced block of a page ends") {
  for (const fs::path& path : files_that_end_in(".md")) {
    INFO(path.string());
    const std::vector<std::string> lines = lines_of(path);
    CHECK(std::count_if(lines.begin(), lines.end(), [](const std::string& l) { return l.rfind("```", 0) == 0; }) % 2 ==
          0);
  }
}

TEST_CASE("the README can be read in ten minutes") {
  CHECK(lines_of(root / "README.md").size() <= 200);
}

TEST_CASE("a file that begins with #! is executable, so that it runs as the documentation prints it") {
  size_t scripts = 0;
  for (const std::string ending : {".sh", ".py"}) {
    for (const fs::path& path : files_that_end_in(ending)) {
      if (contents(path).rfind("#!", 0) != 0) continue;
      INFO(path.string());
      ++scripts;
      CHECK((fs::status(path).permissions() & fs::perms::owner_exec) != fs::perms::none);
    }
  }
  CHECK(scripts > 10);
}
