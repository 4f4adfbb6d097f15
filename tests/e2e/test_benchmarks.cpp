// `strand score` and `strand eval --tasks`, run as users run them, on a tiny trained model.
#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
const std::string samples = STRAND_SOURCE_DIR "/tests/tasks/data";

Outcome succeeded(const std::vector<std::string>& arguments) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(arguments[0] << ": " << outcome.err);
  CHECK(outcome.status == 0);
  return outcome;
}

void train() {
  static const bool done = [] {
    workspace().trained("asked");
    return true;
  }();
  (void)done;
}

std::vector<json> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
  return lines;
}

void write(const std::string& name, const std::string& text) {
  std::ofstream(workspace().root() / name) << text;
}

std::vector<json> scored(const std::string& lines, std::vector<std::string> more = {}) {
  train();
  write("pairs.jsonl", lines);
  more.insert(more.begin(), {"score", "runs/asked", "pairs.jsonl", "--precision", "fp32"});
  return lines_of(succeeded(more).out);
}

double ell(const json& line) {
  return line["log_likelihood"].get<double>();
}

std::string pair(const std::string& context, const std::string& continuation) {
  return json{{"context", context}, {"continuation", continuation}}.dump() + "\n";
}
}  // namespace

TEST_CASE("likelihoods add up: of a text, and of its parts, each after what comes before") {
  const std::string lines = pair("", "The river carried a broken lantern") + pair("", "The river") +
                            pair("The river", " carried a broken lantern") +
                            json{{"text", "The river carried a broken lantern"}}.dump() + "\n" +
                            pair("The river ", "carried a broken lantern");
  const std::vector<json> got = scored(lines);
  REQUIRE(got.size() == 5);
  // Sums of some twenty logits of single precision.
  CHECK(ell(got[1]) + ell(got[2]) == Approx(ell(got[0])).margin(1e-3));
  CHECK(ell(got[3]) == Approx(ell(got[0])).margin(1e-3));
  CHECK(ell(got[4]) == Approx(ell(got[2])).margin(1e-3));
  CHECK(ell(got[0]) < 0);
  CHECK(got[0].contains("greedy"));
  CHECK_FALSE(got[3].contains("greedy"));

  SECTION("passes of other sizes, a shorter context, no BOS") {
    const std::vector<json> small = scored(lines, {"--batch-tokens", "1"});
    for (size_t i = 0; i < got.size(); ++i) CHECK(ell(small[i]) == Approx(ell(got[i])).margin(1e-3));
    const std::vector<json> cut = scored(pair("Nobody. The river", " car"), {"--context", "5"});
    CHECK(ell(cut[0]) != Approx(ell(scored(pair("Nobody. The river", " car"))[0])).margin(1e-3));
    CHECK(std::abs(ell(scored(lines, {"--bos", "off"})[2]) - ell(got[2])) > 1e-4);
    CHECK(ell(scored(lines, {"--bos", "on"})[2]) == ell(got[2]));
  }
  SECTION("texts whose contexts were cut are counted, and nothing is said where there are none") {
    write("long.jsonl", pair("", "a") + pair("Nobody. The river", " car") + pair("A broken lantern", " car"));
    const std::vector<std::string> score = {"score", "runs/asked", "long.jsonl", "--context"};
    const auto said = [&](const std::string& context) {
      std::vector<std::string> arguments = score;
      arguments.push_back(context);
      return succeeded(arguments).err;
    };
    CHECK_THAT(said("5"), Contains("2 of 3 texts have more than 5 tokens: their contexts were cut at the beginning"));
    CHECK_THAT(said("100"), !Contains("were cut"));
  }
  SECTION("the reference device, in double precision") {
    const std::vector<json> exact =
        lines_of(succeeded({"score", "runs/asked", "pairs.jsonl", "--device", "reference", "--threads", "1"}).out);
    for (size_t i = 0; i < got.size(); ++i) CHECK(ell(exact[i]) == Approx(ell(got[i])).margin(1e-3));
  }
  SECTION("from standard input") {
    write("pairs.jsonl", lines);
    const std::string command = strand_program() + " score runs/asked - --precision fp32 <pairs.jsonl";
    const Outcome piped = run_program({"/bin/sh", "-c", command}, workspace().root().string());
    INFO(piped.err);
    REQUIRE(piped.status == 0);
    CHECK(lines_of(piped.out) == got);
  }
  SECTION("into a file") {
    write("pairs.jsonl", lines);
    CHECK(succeeded({"score", "runs/asked", "pairs.jsonl", "--out", "scores.jsonl"}).out.empty());
    CHECK(lines_of(bytes_of(workspace().root() / "scores.jsonl")).size() == 5);
  }
  SECTION("what generate writes greedily is greedy") {
    const Outcome text = succeeded({"generate", "runs/asked", "--prompt", "The river", "--temperature", "0",
                                    "--max-tokens", "1", "--precision", "fp32", "--ignore-eos"});
    std::string all = text.out;
    while (!all.empty() && all.back() == '\n') all.pop_back();
    REQUIRE(all.starts_with("The river"));
    // One token, so that SentencePiece has no other way to cut the text.
    const std::string continuation = all.substr(9);
    const std::vector<json> lines_got = scored(pair("The river", continuation) + pair("The river", " zzz"));
    CHECK(lines_got[0]["greedy"] == true);
    CHECK(lines_got[1]["greedy"] == false);
    CHECK(ell(lines_got[0]) > ell(lines_got[1]));
  }
}

TEST_CASE("every benchmark, as a table and as files") {
  train();
  const std::string all =
      "boolq,arc_easy,arc_challenge,truthfulqa_mc1,truthfulqa_mc2,piqa,mmlu,hellaswag,lambada,wikitext,winogrande,"
      "openbookqa,sciq";
  const std::vector<std::string> common = {"eval",        "runs/asked", "--tasks",     all,
                                           "--task-data", samples,      "--precision", "fp32",
                                           "--context",   "400",        "--out",       "runs/asked/evaluation"};
  const Outcome table = succeeded(common);
  for (const char* word : {"task", "chance", "majority", "acc_norm", "word_perplexity", "mmlu_stem", "hellaswag"})
    CHECK_THAT(table.out, Contains(word));
  CHECK_THAT(table.out, !Contains("mmlu_anatomy"));
  const std::filesystem::path scores = workspace().root() / "runs/asked/evaluation";
  const json results = json::parse(bytes_of(scores / "results.json"));
  CHECK(results["results"].size() == 12 + 5 + 5);  // five subjects of MMLU in four groups, and all of them
  CHECK(results["group_subtasks"]["mmlu"].size() == 5);
  CHECK(results["n-samples"]["hellaswag"]["effective"] == 3);

  // The report of the run shows them.
  succeeded({"report", "runs/asked", "--out", "asked.html"});
  const std::string report = bytes_of(workspace().root() / "asked.html");
  CHECK_THAT(report, !Contains("Not evaluated on tasks"));
  CHECK_THAT(report, Contains("mmlu_anatomy"));

  // The samples hold what was asked: `strand score` answers the same.
  std::string lines;
  std::vector<double> expected;
  for (const std::string task : {"hellaswag", "winogrande", "mmlu_anatomy", "lambada", "truthfulqa_mc2"}) {
    for (const json& sample : lines_of(bytes_of(scores / ("samples_" + task + ".jsonl")))) {
      for (size_t i = 0; i < sample["arguments"].size(); ++i) {
        const json& asked = sample["arguments"]["gen_args_" + std::to_string(i)];
        lines += pair(asked["arg_0"].get<std::string>(), asked["arg_1"].get<std::string>());
        expected.push_back(std::stod(sample["resps"][i][0][0].get<std::string>()));
      }
    }
  }
  const std::vector<json> got = scored(lines, {"--context", "400"});
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(ell(got[i]) == Approx(expected[i]).margin(2e-3));

  const Outcome limited = succeeded({"eval", "runs/asked", "--tasks", "piqa,sciq", "--task-data", samples, "--limit",
                                     "1", "--json", "--context", "400", "--bos", "off", "--batch-tokens", "100"});
  const json one = json::parse(limited.out);
  CHECK(one["n-samples"]["piqa"]["effective"] == 1);
  CHECK(one["n-samples"]["piqa"]["original"] == 3);
  CHECK(one["config"]["model_args"]["add_bos_token"] == false);
  // The sequence length of this model is 32: most questions are longer.
  const Outcome cut = succeeded({"eval", "runs/asked", "--tasks", "boolq", "--task-data", samples});
  CHECK_THAT(cut.err, Contains("of 6 texts have more than 32 tokens"));
}

TEST_CASE("requests that make no sense are refused before the model is opened") {
  train();
  const auto refused = [](const std::vector<std::string>& more, int status) {
    std::vector<std::string> arguments = {"eval", "runs/asked"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = workspace().strand(arguments);
    CHECK(outcome.status == status);
    return outcome.err;
  };
  CHECK_THAT(refused({}, 2), Contains("--data") && Contains("--tasks"));
  CHECK_THAT(refused({"--tasks", "piqa"}, 2), Contains("--task-data"));
  CHECK_THAT(refused({"--tasks", "pica", "--task-data", samples}, 2), Contains("pica") && Contains("piqa"));
  CHECK_THAT(refused({"--tasks", "piqa,piqa", "--task-data", samples}, 2), Contains("twice"));
  CHECK_THAT(refused({"--tasks", "piqa", "--task-data", samples, "--data", "val"}, 2), Contains("--data"));
  CHECK_THAT(refused({"--data", "val", "--limit", "3"}, 2), Contains("--tasks"));
  CHECK_THAT(refused({"--tasks", "piqa", "--task-data", "nowhere"}, 1), Contains("nowhere"));
  write("bad.jsonl", "{\"context\": 3}\n");
  const Outcome bad = workspace().strand({"score", "runs/asked", "bad.jsonl"});
  CHECK(bad.status == 1);
  CHECK_THAT(bad.err, Contains("bad.jsonl: line 1: \"context\" is a number"));
  write("long.jsonl", pair("a", std::string(400, 'x')));
  const Outcome longer = workspace().strand({"score", "runs/asked", "long.jsonl"});
  CHECK(longer.status == 1);
  CHECK_THAT(longer.err, Contains("long.jsonl: line 1: the continuation has") && Contains("at most 32"));
}
