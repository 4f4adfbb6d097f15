// Writes copies of sources of kernels/cuda in which all bugs of the list (kernel_bugs.h) are planted.
//
//   plant_bugs SOURCES TO FILE...     SOURCES and TO are folders, the files are named as in SOURCES
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "gpu_emulation/planted_bugs/kernel_bugs.h"

int main(int count, char** words) {
  if (count < 4) {
    std::fputs("plant_bugs: usage: plant_bugs SOURCES TO FILE...\n", stderr);
    return 2;
  }
  const std::filesystem::path sources = words[1], to = words[2];
  std::filesystem::create_directories(to);
  for (int i = 3; i < count; ++i) {
    const std::string name = words[i];
    std::ifstream in(sources / name, std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "plant_bugs: error: cannot read %s\n", (sources / name).c_str());
      return 1;
    }
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    std::vector<int> missing;  // the test tells of them
    std::ofstream out(to / name, std::ios::binary);
    // Reports name the lines of the original. A change of several lines moves what is behind it by as many.
    out << "#include \"gpu_emulation/planted_bugs/planted.h\"\n#line 1 \"" << (sources / name).string() << "\"\n"
        << planted_bugs::with_bugs(name, text, missing);
    if (!out.flush()) {
      std::fprintf(stderr, "plant_bugs: error: cannot write %s\n", (to / name).c_str());
      return 1;
    }
  }
  return 0;
}
