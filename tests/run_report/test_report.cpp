// Reports of made-up runs: what they say, and what a page may be.
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>
#include <sstream>

#include "core/error.h"
#include "run_report/flow_diagram.h"
#include "run_report/groups.h"
#include "run_report/report.h"
#include "run_report/run_files.h"
#include "run_report/verdict.h"
#include "tests/catch.h"

using namespace strand::run_report;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
/// A folder of made-up runs with 3 layers, 4 experts and 100 steps.
class Runs {
 public:
  Runs() {
    std::string name = (fs::temp_directory_path() / "strand_report_XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~Runs() { fs::remove_all(root_); }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;

  struct Step {
    int64_t step;
    std::string loss, norm = "0.5";
    std::vector<double> load = {0.25, 0.25, 0.25, 0.25};  ///< of layer 1; the others are even
    double z = 9, entropy = 2;
    std::string more;
  };
  using Change = std::function<void(Step&)>;

  std::string make(const std::string& name, int seed, double sp_weight, int steps, const Change& change = {}) {
    const fs::path run = root_ / name;
    fs::create_directories(run);
    std::ofstream(run / "config.yaml") << fmt::format(
        "run: {{name: \"{}\", seed: {}}}\nmodel: {{vocab_size: 100, hidden_size: 8, num_layers: 3, num_heads: 2}}\n"
        "moe: {{num_experts: 4, top_k: 2, expert_ffn: 8}}\nlosses: {{lb_weight: 0.01, sp_weight: {}}}\n"
        "data: {{sequence_length: 16}}\ntrain: {{steps: 100, global_batch_size: 2, micro_batch_size: 2}}\n",
        name, seed, sp_weight);
    std::ofstream log(run / "log.jsonl");
    for (int i = 1; i <= steps; ++i) {
      Step s{i, fmt::format("{:.6f}", 3 + 2 * std::exp(-i / 20.0) + 0.01 * seed - sp_weight)};
      if (change) change(s);
      const auto& l = s.load;
      log << fmt::format(
          "{{\"step\":{},\"loss\":{},\"ce\":{},\"lb\":3,\"sp\":0.6,\"cp\":-1,\"z\":{},\"entropy\":{},\"lr\":0.001,"
          "\"grad_norm\":{},"
          "\"loss_z\":0.1,\"tokens\":{},\"tokens_per_second\":1000,\"mfu\":0.3,\"expert_load\":[[0.25,0.25,0.25,0.25],"
          "[{},{},{},{}],[0.25,0.25,0.25,0.25]]{}}}\n",
          i, s.loss, s.loss, s.z, s.entropy, s.norm, 32 * i, l[0], l[1], l[2], l[3], s.more);
    }
    return run.string();
  }

  fs::path root() const { return root_; }

 private:
  fs::path root_;
};

std::string warnings_text(const std::string& run) {
  std::string text;
  for (const std::string& warning : warnings_of(read_run(run))) text += warning + "\n";
  return text;
}

std::string panel(const std::string& page, const std::string& id) {
  const size_t begin = page.find("<section id=\"" + id + "\">");
  return begin == std::string::npos ? "" : page.substr(begin, page.find("</section>", begin) - begin);
}
}  // namespace

TEST_CASE("panels come in the order of the questions, and none is empty") {
  Runs runs;
  const std::string page = make_report({runs.make("one", 1, 0.002, 100)}, 0);
  size_t before = 0;
  for (const char* id :
       {"header", "warnings", "loss", "terms", "optimizer", "speed", "load", "router", "specialization", "coupling",
        "stability", "domains", "evaluation", "samples", "configuration"}) {
    INFO(id);
    const size_t place = page.find("<section id=\"" + std::string(id) + "\">");
    REQUIRE(place != std::string::npos);
    CHECK(place > before);
    before = place;
    CHECK(panel(page, id).size() > 80);
  }
  CHECK_THAT(panel(page, "header"), Contains("Finished: all 100 steps are done."));
  CHECK_THAT(panel(page, "warnings"), Contains("No warnings."));
}

TEST_CASE("a page refers to nothing outside, and equal files give equal bytes") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0.002, 100);
  const std::string page = make_report({run}, 0);
  CHECK(page == make_report({run}, 0));
  CHECK(page.size() < 1'500'000);
  static const std::regex outside(R"((src|href)="(?!data:))");
  CHECK_FALSE(std::regex_search(page, outside));
  CHECK(page.find("@import") == std::string::npos);
  CHECK(page.find("http-equiv=\"refresh\"") == std::string::npos);
  CHECK(make_report({run}, 5).find("http-equiv=\"refresh\" content=\"5\"") != std::string::npos);
}

TEST_CASE("what names and texts hold is shown, not obeyed") {
  Runs runs;
  const std::string run = runs.make("a&b", 1, 0, 20);
  std::ofstream(fs::path(run) / "samples.txt") << "</pre></section><script>alert(1)</script>";
  const std::string page = make_report({run}, 0);
  CHECK(page.find("<script>alert") == std::string::npos);
  CHECK_THAT(page, Contains("a&amp;b"));
  CHECK_THAT(panel(page, "samples"), Contains("&lt;script&gt;alert(1)"));
}

TEST_CASE("the verdict says how far a run came") {
  Runs runs;
  CHECK(verdict_of(read_run(runs.make("a", 1, 0, 0))).outcome == Outcome::waiting);
  CHECK(verdict_of(read_run(runs.make("b", 1, 0, 40))).text ==
        "At step 40 of 100: running, or stopped and ready to go on.");
  const auto at_30 = [](Runs::Step& s) {
    if (s.step == 30) s.loss = "null";
  };
  CHECK(verdict_of(read_run(runs.make("c", 1, 0, 30, at_30))).outcome == Outcome::not_finite);
  const auto gradient_at_30 = [](Runs::Step& s) {
    if (s.step == 30) s.norm = "null";
  };
  CHECK(verdict_of(read_run(runs.make("e", 1, 0, 30, gradient_at_30))).text ==
        "Stopped at step 30 of 100: the loss or the gradient is not a number.");
  const std::string skipped = runs.make("d", 1, 0, 100, at_30);
  CHECK(verdict_of(read_run(skipped)).outcome == Outcome::finished);
  CHECK_THAT(warnings_text(skipped), Contains("1 step had a loss or a gradient that is not a number."));
}

TEST_CASE("warnings name the layer, the step and the number") {
  Runs runs;
  CHECK_THAT(warnings_text(runs.make("idle", 1, 0, 100,
                                     [](Runs::Step& s) {
                                       if (s.step >= 60) s.load = {0.5, 0.5, 0, 0};
                                     })),
             Contains("Layer 1: 2 experts got no token in any logged step since step 60."));
  CHECK_THAT(warnings_text(runs.make("uneven", 1, 0, 100,
                                     [](Runs::Step& s) {
                                       s.load = {0.91, 0.03, 0.03, 0.03};
                                     })),
             Contains("Layer 1: at step 100 the busiest expert has 3.6 times the mean load."));
  CHECK_THAT(
      warnings_text(runs.make("clipped", 1, 0, 100, [](Runs::Step& s) { s.norm = s.step > 70 ? "2.5" : "0.1"; })),
      Contains("60 % of the gradients were longer than clip_norm 1"));
  // sqrt(7500 / 3 layers) = 50
  CHECK_THAT(warnings_text(runs.make("large", 1, 0, 100, [](Runs::Step& s) { s.z = 7500; })),
             Contains("the root mean square of their log-sum-exp is 50."));
  CHECK_THAT(warnings_text(runs.make("overfit", 1, 0, 100,
                                     [](Runs::Step& s) {
                                       if (s.step % 25 == 0)
                                         s.more = fmt::format(",\"val_loss\":{}", s.step == 50 ? 3.0 : 3.2);
                                     })),
             Contains("The validation loss was least at step 50 (3.0000) and is now 3.2000."));
  // 0.04 / 3 layers / ln 4 = 0.96 %
  CHECK_THAT(warnings_text(runs.make("certain", 1, 0, 100, [](Runs::Step& s) { s.entropy = 0.04; })),
             Contains("the mean entropy is 0.96 % of ln E"));
}

TEST_CASE("runs that differ in the seed alone are one kind, and kinds are compared seed by seed") {
  Runs runs;
  std::vector<std::string> all;
  for (const int seed : {1, 2, 3}) all.push_back(runs.make(fmt::format("lb_s{}", seed), seed, 0, 100));
  for (const int seed : {3, 1, 4}) all.push_back(runs.make(fmt::format("sp_s{}", seed), seed, 0.002, 100));
  std::vector<RunFiles> files;
  for (const std::string& run : all) files.push_back(read_run(run));
  const std::vector<Group> groups = groups_of(files);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].name == "lb");
  CHECK(groups[1].name == "sp");
  CHECK(groups[1].runs.size() == 3);
  const std::vector<PairedDifference> pairs = paired_differences(groups);
  REQUIRE(pairs.size() == 1);
  REQUIRE(pairs[0].differences.size() == 2);  // seeds 1 and 3
  for (const double d : pairs[0].differences) CHECK(d == Approx(-0.002).margin(1e-9));
  const std::string page = make_report(all, 0);
  CHECK_THAT(panel(page, "comparison"),
             Contains("sp − lb") && Contains("-0.0020") && Contains("losses.sp_weight: 0.0 became 0.002"));
  CHECK_THAT(panel(page, "header"), Contains("Comparison of 6 runs of 2 kinds"));
}

TEST_CASE("long runs of many kinds still make a page of 1.5 MB at most") {
  Runs runs;
  std::vector<std::string> all;
  for (int kind = 0; kind < 4; ++kind)
    for (const int seed : {1, 2}) {
      const std::string run = runs.make(fmt::format("k{}_s{}", kind, seed), seed, 0.001 * kind, 0);
      std::ofstream log(fs::path(run) / "log.jsonl");
      for (int i = 1; i <= 20'000; ++i)
        log << fmt::format(
            "{{\"step\":{},\"loss\":{},\"ce\":{},\"lb\":{},\"z\":{},\"v\":{},\"entropy\":{},\"lr\":{},\"grad_norm\":{},"
            "\"loss_z\":{},\"tokens\":{},\"tokens_per_second\":{},\"mfu\":0.3}}\n",
            i, 3.123456 + i * 1e-7, 3.1, 3.3 + i * 1e-6, 9.1 + i * 1e-6, -0.1 - i * 1e-6, 2.1 + i * 1e-6,
            0.001234 - i * 1e-9, 0.5 + i * 1e-6, 0.1 + i * 1e-7, 32 * i, 1000.5 + i);
      all.push_back(run);
    }
  CHECK(make_report(all, 0).size() < 1'500'000);
}

TEST_CASE("what a step cost, what its update moved, and bits a byte are shown where the log has them") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0, 100, [](Runs::Step& s) {
    // The first half of the logged steps does not count: it has the caches of nobody.
    const double forward = s.step <= 50 ? 9 : 0.3;
    s.more = fmt::format(
        ",\"update_ratio\":0.00123,\"router_bias_range\":0.04,\"val_loss\":3.1,\"val_bits_per_byte\":1.2345,"
        "\"step_seconds\":{{\"forward\":{},\"head\":0.1,\"backward\":0.5,\"update\":0.1,\"exchange\":0,\"data\":0}},"
        "\"peak_bytes\":{}",
        forward, 3 * (int64_t{1} << 29));
  });
  std::ofstream(fs::path(run) / "environment.json") << R"({"commit": "", "host": "here", "planned_bytes": 1073741824})";
  const std::string page = make_report({run}, 0);
  CHECK_THAT(panel(page, "header"), Contains("1.234") && Contains("bits a byte") && Contains("<p>host: here.</p>"));
  CHECK_THAT(panel(page, "optimizer"), Contains("chart-update"));
  CHECK_THAT(panel(page, "load"), Contains("chart-bias"));
  CHECK_THAT(panel(page, "speed"), Contains("layers, forward</td><td>0.300</td><td>30.0 %"));
  CHECK_THAT(panel(page, "speed"), Contains("Peak memory of a process: 1.50 GiB; the tensors take 1.00 GiB of it"));
  const std::string without = make_report({runs.make("two", 1, 0, 100)}, 0);
  CHECK_THAT(panel(without, "header"), Contains("bits a token"));
  CHECK_THAT(panel(without, "speed"), Contains("The parts of a step were not measured"));
  CHECK(panel(without, "optimizer").find("chart-update") == std::string::npos);
}

TEST_CASE("scores stand beside chance, and subjects of a group apart") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0, 10);
  fs::create_directories(fs::path(run) / "evaluation");
  std::ofstream(fs::path(run) / "evaluation/results.json")
      << R"({"results": {"piqa": {"acc,none": 0.55, "acc_stderr,none": 0.012}, "mmlu": {"acc,none": 0.26},
            "mmlu_law": {"acc,none": 0.31}}, "group_subtasks": {"mmlu": ["mmlu_law"]},
            "strand": {"levels": {"piqa": {"chance": 0.5, "majority": 0.505, "gold_bits_per_byte": 1.875}}}})";
  const std::string evaluation = panel(make_report({run}, 0), "evaluation");
  CHECK_THAT(evaluation,
             Contains("<td>piqa</td><td>acc</td><td>0.5500</td><td>0.012</td><td>0.5000</td><td>0.5050</td>"));
  CHECK_THAT(evaluation, Contains("bits a byte of the right answer</td><td>1.875</td>"));
  CHECK(evaluation.find("mmlu_law") > evaluation.find("<details>"));
  CHECK(evaluation.find("<td>mmlu</td>") < evaluation.find("<details>"));
}

TEST_CASE("a stop says where the number that is none was found") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0, 30, [](Runs::Step& s) {
    if (s.step == 30) s.loss = "null", s.more = ",\"nonfinite\":\"activation layers.1.ffn\"";
  });
  CHECK(verdict_of(read_run(run)).text ==
        "Stopped at step 30 of 100: the loss or the gradient is not a number, first in activation layers.1.ffn.");
}

TEST_CASE("a flow is drawn as thick as its tokens are many, with colour where it is more than chance") {
  const FlowDiagram diagram{.title = "a<b", .layers = {"0", "3"}, .counts = {{{100, 0, 0}, {0, 60, 40}, {0, 40, 60}}}};
  const std::string html = flow_diagram_html(diagram, 64);
  CHECK_THAT(html, Contains("a&lt;b") && Contains("layer 3"));
  // 260 units less two gaps of 2, for 300 tokens: 0.853 a token. By chance each pair shares 33 tokens.
  CHECK_THAT(html, Contains("class=\"flow more\" stroke-width=\"85.3\""));
  CHECK_THAT(html,
             Contains("class=\"flow\" stroke-width=\"51.2\"") && Contains("class=\"flow\" stroke-width=\"34.1\""));
  size_t drawn = 0;
  for (size_t at = html.find("<path"); at != std::string::npos; at = html.find("<path", at + 1)) ++drawn;
  CHECK(drawn == 5);
  CHECK_THAT(flow_diagram_html(diagram, 2), Contains("3 experts are too many"));
  CHECK(flow_diagram_html({.title = "", .layers = {"0", "3"}, .counts = {{{1, 2}}}}, 64).empty());
  CHECK(flow_diagram_html({.title = "", .layers = {"0", "3"}, .counts = {{{0, 0}, {0, 0}}}}, 64).empty());
}

TEST_CASE("lines of a log that are no rows are left out and counted; a row that is being written is not") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0, 10);
  std::ofstream(fs::path(run) / "log.jsonl", std::ios::app) << "rubbish\n{\"step\":3}\n{\"step\":11,\"loss\":2.0,";
  const RunFiles files = read_run(run);
  CHECK(files.last_step == 10);
  CHECK(files.foreign_lines == 2);
  CHECK_THAT(warnings_text(run), Contains("2 lines of log.jsonl are no row, or out of order, and were left out."));
}

TEST_CASE("a directory that is not of a run, and a damaged file beside the log, are errors that name them") {
  Runs runs;
  CHECK_THROWS_WITH(make_report({(runs.root() / "none").string()}, 0), Contains("no such directory"));
  CHECK_THROWS_WITH(make_report({runs.root().string()}, 0), Contains("it has no config.yaml"));
  const std::string run = runs.make("one", 1, 0, 10);
  fs::create_directories(fs::path(run) / "analysis");
  std::ofstream(fs::path(run) / "analysis/analysis.json") << "[1, 2";
  CHECK_THROWS_WITH(make_report({run}, 0), Contains("analysis.json: not a JSON object"));
  std::ofstream(fs::path(run) / "analysis/analysis.json") << "{\"format\": \"another\", \"models\": [{}]}";
  CHECK_THAT(make_report({run}, 0), Contains("is not of the format strand-analysis-1"));
}

TEST_CASE("an analysis that lacks parts is shown as far as it goes") {
  Runs runs;
  const std::string run = runs.make("one", 1, 0, 10);
  fs::create_directories(fs::path(run) / "analysis");
  std::ofstream(fs::path(run) / "analysis/analysis.json")
      << R"({"format": "strand-analysis-1", "models": [{"layers": [0, 1, 2], "top_k": 2, "overlap": {"z": 3},
            "coupling": {"pairs": [{"lower": 0, "upper": 1, "kappa": 0.5, "matched": [9, -1, "x"],
            "conditional": [[1, 2], [null]]}, 7]}, "domains": {"share": [[[0.5]], 3], "chance": 0.5},
            "flows": {"layers": [0, 1, 2], "domains": [{"counts": [[[1, "x"]], 3]}, 7]}, "sharpness": {"top_k": [1]},
            "vocabulary": {"token_lists": [{"layer": 0, "experts": [3, [{}]]}]}}], "stability": [{"steps": [1]}]})";
  CHECK_THAT(panel(make_report({run}, 0), "coupling"), Contains("0.5000"));
}
