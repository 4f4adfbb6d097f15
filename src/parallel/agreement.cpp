#include "parallel/agreement.h"

#include <sstream>

#include "core/error.h"

namespace strand {

namespace {
/// The next line in quotes, or "nothing".
std::string next_line(std::istringstream& in) {
  std::string line;
  return std::getline(in, line) ? "'" + line + "'" : "nothing";
}

std::string first_difference(const std::string& here, const std::string& there) {
  std::istringstream a(here), b(there);
  for (int number = 1; a || b; ++number) {
    const std::string x = next_line(a), y = next_line(b);
    if (x != y) return fmt::format("line {} is {} there and {} on rank 0", number, y, x);
  }
  return "line ends differ";
}
}  // namespace

std::string disagreement(const char* what, const std::vector<std::string>& texts) {
  for (size_t p = 1; p < texts.size(); ++p)
    if (texts[p] != texts[0])
      return fmt::format("rank {} has another {} than rank 0: {}", p, what, first_difference(texts[0], texts[p]));
  return "";
}

void require_agreement(ControlChannel& all, const char* what, const std::string& text) {
  const std::string message = disagreement(what, all.all_gather(text));
  if (!message.empty()) throw Error(message);
}

}  // namespace strand
