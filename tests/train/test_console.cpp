// Training on a terminal: passing lines fit its width, lasting ones stay whole.
#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/error.h"
#include "tests/catch.h"
#include "tests/e2e/workspace.h"
#include "train/console.h"

namespace strand {
namespace {

using Catch::Contains;

/// What stands between two erasures or line ends: a passing line ends in an erasure, a lasting one in a line end.
struct Lines {
  std::vector<std::string> passing, lasting;
};

Lines lines_of(const std::string& text) {
  const std::string erase = "\r\x1b[2K";
  Lines lines;
  for (size_t at = 0; at < text.size();) {
    const size_t erased = std::min(text.find(erase, at), text.size());
    const size_t ended = std::min(text.find("\r\n", at), text.size());
    const size_t end = std::min(erased, ended);
    (erased < ended ? lines.passing : lines.lasting).push_back(text.substr(at, end - at));
    at = end + (erased < ended ? erase.size() : 2);
  }
  return lines;
}

/// Ten of the twenty steps pass and ten are logged.
OnTerminal train_on_terminal(const std::string& name, int columns, const std::string& kind = "xterm") {
  std::vector<std::string> words = {strand_program()};
  for (const std::string& word : workspace().train(name, {"--set", "train.log_every=2"})) words.push_back(word);
  return run_on_terminal(
      words, columns,
      {.directory = workspace().root(), .in_child = [kind] { setenv("TERM", kind.c_str(), 1); }, .meanwhile = {}});
}

/// While such an object lives, standard output of this process is a terminal.
class TerminalAsOutput {
 public:
  TerminalAsOutput() : before_(dup(STDOUT_FILENO)) {
    std::fflush(stdout);
    if (openpty(&ours_, &theirs_, nullptr, nullptr, nullptr) != 0) fail_errno("open", "a pseudo-terminal");
    dup2(theirs_, STDOUT_FILENO);
    unsetenv("COLUMNS");
    setenv("TERM", "xterm", 1);
  }
  ~TerminalAsOutput() {
    dup2(before_, STDOUT_FILENO);
    for (const int descriptor : {before_, ours_, theirs_}) close(descriptor);
  }
  TerminalAsOutput(const TerminalAsOutput&) = delete;
  TerminalAsOutput& operator=(const TerminalAsOutput&) = delete;

  void set_columns(int columns) const {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    if (ioctl(ours_, TIOCSWINSZ, &size) != 0) fail_errno("set the width of", "a terminal");
  }
  /// All that was written, up to this text; less than a terminal holds. It may arrive in several parts.
  std::string written_until(const std::string& end) const {
    std::string text;
    std::array<char, 4096> part{};
    while (text.find(end) == std::string::npos) {
      const ssize_t count = read(ours_, part.data(), part.size());
      if (count <= 0) fail_errno("read", "a pseudo-terminal");
      text.append(part.data(), static_cast<size_t>(count));
    }
    return text;
  }

 private:
  int before_ = -1, ours_ = -1, theirs_ = -1;
};

size_t steps_in(const std::vector<std::string>& lines) {
  return static_cast<size_t>(
      std::count_if(lines.begin(), lines.end(), [](const std::string& line) { return line.starts_with("step "); }));
}
}  // namespace

TEST_CASE("Passing lines fit the terminal, and lasting ones are whole") {
  const int columns = GENERATE(12, 40, 60, 80, 120, 250);
  INFO(columns);
  const OnTerminal run = train_on_terminal("width" + std::to_string(columns), columns);
  REQUIRE(run.status == 0);
  const Lines lines = lines_of(run.text);
  CHECK(steps_in(lines.passing) == 9);  // of the odd steps the first one is logged
  CHECK(steps_in(lines.lasting) == 11);
  for (const std::string& line : lines.passing) CHECK(line.size() < static_cast<size_t>(columns));
  for (const std::string& line : lines.lasting)
    if (line.starts_with("step ")) CHECK_THAT(line, Contains("lb ") && Contains("busiest expert") && Contains(" left"));
}

TEST_CASE("A window that changes: each passing line fits the width of its moment") {
  StepReport report;
  report.step = report.steps = 7;
  report.terms.value.fill(1.5);
  report.worst_expert = 2;
  const std::vector<int> widths = {100, 30, 120, 20, 0, 60};  // 0: the terminal does not know any more, which is 80
  std::vector<std::string> passing;
  {
    const TerminalAsOutput terminal;
    Console console(Console::Lines::all);
    for (const int columns : widths) {
      terminal.set_columns(columns);
      console.step(report, Console::Kind::passing);
    }
    console.news("the end");
    passing = lines_of(terminal.written_until("the end\r\n")).passing;
  }
  REQUIRE(passing.size() == widths.size());
  for (size_t i = 0; i < widths.size(); ++i) {
    const auto columns = static_cast<size_t>(widths[i] == 0 ? 80 : widths[i]);
    INFO(passing[i]);
    CHECK(passing[i].size() < columns);
    CHECK(passing[i].size() + 50 > columns);  // and is not shorter than it has to be
  }
}

TEST_CASE("A terminal that cannot erase a line gets lasting lines only") {
  const OnTerminal run = train_on_terminal("dumb", 80, "dumb");
  REQUIRE(run.status == 0);
  CHECK(run.text.find('\x1b') == std::string::npos);
  CHECK(steps_in(lines_of(run.text).lasting) == 11);
}

TEST_CASE("A step's line that has to be short keeps the step, the loss and the time left longest") {
  StepReport report;
  report.step = 12;
  report.steps = 400;
  report.terms.loss = 4.25;
  report.terms.value.fill(1.5);
  report.tokens_per_second = 2888;
  report.mfu = 0.65;
  report.worst_expert = 1.2;
  report.seconds_left = 75;
  const std::string whole = format_step(report);
  CHECK(format_step(report, 1000) == whole);
  CHECK(format_step(report, static_cast<int>(whole.size())) == whole);
  CHECK(format_step(report, 60) == "step  12/400  loss 4.2500 | 2888 tok/s | 1 min 15 s left");
  CHECK(format_step(report, 45) == "step  12/400  loss 4.2500 | 1 min 15 s left");
  CHECK(format_step(report, 25) == "step  12/400  loss 4.2500");
  CHECK(format_step(report, 12) == "step  12/400");
  CHECK(format_step(report, 6) == "step  ");
  for (int columns = 0; columns < 200; ++columns)
    CHECK(format_step(report, columns).size() <= static_cast<size_t>(columns));
}

}  // namespace strand
