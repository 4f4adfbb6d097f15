// Metrics on numbers that can be worked out by hand.
#include <cmath>

#include "tasks/metrics.h"
#include "tasks/result_files.h"
#include "tests/catch.h"

using namespace strand;

namespace {
using Json = nlohmann::ordered_json;

const TaskDefinition definition(const char* name) {
  for (const TaskDefinition& d : task_definitions())
    if (d.name == std::string(name)) return d;
  FAIL(name);
  return task_definitions()[0];
}

TaskDocument question(std::vector<std::string> choices, size_t gold) {
  TaskDocument document{.record = Json{{"id", 1}}, .gold = gold};
  for (const std::string& choice : choices) document.requests.push_back({"Q", " " + choice, {}, ""});
  document.choices = std::move(choices);
  return document;
}

Task task(const TaskDefinition& of, std::vector<TaskDocument> documents, const std::string& name = "t",
          const std::string& group = "") {
  const size_t count = documents.size();
  return {name, group, &of, std::move(documents), count};
}

const Metric& metric(const TaskResult& result, const std::string& name) {
  for (const Metric& m : result.metrics)
    if (m.name == name) return m;
  FAIL(name);
  return result.metrics[0];
}
}  // namespace

TEST_CASE("acc takes the likeliest choice, acc_norm the likeliest by character") {
  const TaskDefinition arc = definition("arc_easy");
  // "é" is one character of two bytes. In the second document two are equally likely: the first one counts.
  const Task t = task(arc, {question({"aaaa", "éé"}, 0), question({"x", "y", "z"}, 1), question({"x", "y"}, 1)});
  const std::vector<TokenScore> scores = {{-4, false}, {-3, false}, {-1, false}, {-1, false},
                                          {-2, false}, {-5, false}, {-1, false}};
  const TaskResult result = task_result(t, scores);
  CHECK(metric(result, "acc").value == Approx(1.0 / 3));       // wrong, wrong, right
  CHECK(metric(result, "acc_norm").value == Approx(2.0 / 3));  // −1 by character against −1.5: right
  // sqrt(p (1 − p) / (n − 1))
  CHECK(*metric(result, "acc").standard_error == Approx(std::sqrt(1.0 / 3 * (2.0 / 3) / 2)));
  CHECK(*result.chance == Approx((0.5 + 1.0 / 3 + 0.5) / 3));
  CHECK(*result.majority == Approx(2.0 / 3));
  const double bits = (4.0 / 4 + 1.0 / 1 + 1.0 / 1) / 3 / std::log(2.0);
  CHECK(result.gold->bits_per_byte == Approx(bits));
  const double p1 = std::exp(-4) / (std::exp(-4) + std::exp(-3)), p2 = std::exp(-1) / (2 * std::exp(-1) + std::exp(-2)),
               p3 = std::exp(-1) / (std::exp(-1) + std::exp(-5));
  CHECK(result.gold->probability == Approx((p1 + p2 + p3) / 3));
  const double n1 = std::exp(-1) / (std::exp(-1) + std::exp(-1.5));
  CHECK(result.gold->normalized_probability == Approx((n1 + p2 + p3) / 3));
  CHECK(result.gold->margin == Approx((-1.0 + 0.0 + 4.0) / 3));
  CHECK(result.documents[0].values == std::vector<std::pair<std::string, double>>{{"acc", 0.0}, {"acc_norm", 1.0}});
}

TEST_CASE("several right choices: their share of the probability, however small all of them are") {
  const TaskDefinition mc2 = definition("truthfulqa_mc2");
  TaskDocument one = question({"a", "b", "c"}, 0), two = question({"a", "b"}, 0);
  one.right = {0, 1, 1};
  two.right = {1, 0};
  const Task t = task(mc2, {one, two});
  // e^−900 is 0 in double precision.
  const std::vector<TokenScore> scores = {{-1, false}, {-2, false}, {-3, false}, {-900, false}, {-901, false}};
  const TaskResult result = task_result(t, scores);
  const double first = (std::exp(-2) + std::exp(-3)) / (std::exp(-1) + std::exp(-2) + std::exp(-3)),
               second = 1 / (1 + std::exp(-1));
  CHECK(metric(result, "acc").value == Approx((first + second) / 2));
  CHECK(*result.chance == Approx((2.0 / 3 + 0.5) / 2));
  CHECK_FALSE(result.majority);
  CHECK_FALSE(result.gold);
}

TEST_CASE("last words and whole texts") {
  const TaskDefinition lambada = definition("lambada");
  const Task words = task(lambada, {question({"a"}, 0), question({"b"}, 0), question({"c"}, 0)});
  const std::vector<TokenScore> scores = {{-1, true}, {-2, false}, {-6, true}};
  const TaskResult result = task_result(words, scores);
  CHECK(metric(result, "perplexity").value == Approx(std::exp(3.0)));
  const double sd = std::sqrt((4.0 + 1.0 + 9.0) / 2);
  CHECK(*metric(result, "perplexity").standard_error == Approx(std::exp(3.0) * sd / std::sqrt(3.0)));
  CHECK(metric(result, "acc").value == Approx(2.0 / 3));

  const TaskDefinition wikitext = definition("wikitext");
  TaskDocument page{.record = Json{{"page", "x"}}, .words = 10, .bytes = 50}, other = page;
  page.requests.push_back({"", "x", Likelihood::of_text, ""});
  other = page;
  other.words = 30;
  other.bytes = 150;
  const Task pages = task(wikitext, {page, other});
  const std::vector<TokenScore> ells = {{-100, false}, {-300, false}};
  const TaskResult texts = task_result(pages, ells);
  CHECK(metric(texts, "word_perplexity").value == Approx(std::exp(10.0)));
  CHECK(metric(texts, "byte_perplexity").value == Approx(std::exp(2.0)));
  CHECK(metric(texts, "bits_per_byte").value == Approx(2.0 / std::log(2.0)));
  CHECK_FALSE(metric(texts, "bits_per_byte").standard_error);
}

TEST_CASE("groups weigh their tasks by documents") {
  const TaskDefinition mmlu = definition("mmlu");
  const auto subject = [&](size_t right, size_t wrong, const char* name, const char* group) {
    return task(mmlu, std::vector<TaskDocument>(right + wrong, question({"A", "B", "C", "D"}, 0)), name, group);
  };
  const std::vector<Task> tasks = {subject(3, 1, "mmlu_a", "mmlu_stem"), subject(2, 8, "mmlu_b", "mmlu_stem"),
                                   subject(5, 1, "mmlu_c", "mmlu_other")};
  std::vector<TaskResult> results;
  const size_t right[] = {3, 2, 5};
  for (size_t t = 0; t < 3; ++t) {
    std::vector<TokenScore> scores;
    for (size_t i = 0; i < tasks[t].documents.size(); ++i)
      for (size_t c = 0; c < 4; ++c) scores.push_back({c == (i < right[t] ? 0u : 2u) ? -1.0 : -2.0, false});
    results.push_back(task_result(tasks[t], scores));
  }
  const std::vector<GroupResult> groups = group_results(results);
  REQUIRE(groups.size() == 3);
  CHECK(groups[0].name == "mmlu");
  CHECK(groups[0].acc.value == Approx(10.0 / 20));
  CHECK(groups[1].name == "mmlu_other");
  CHECK(groups[2].name == "mmlu_stem");
  CHECK(groups[2].documents == 14);
  CHECK(groups[2].acc.value == Approx(5.0 / 14));
  // Σ (n − 1) n se² = Σ n p (1 − p); over Σ n − k, over Σ n.
  const double pooled = 4 * 0.75 * 0.25 + 10 * 0.2 * 0.8;
  CHECK(*groups[2].acc.standard_error == Approx(std::sqrt(pooled / (14 - 2) / 14)));
  CHECK(groups[2].chance == Approx(0.25));
}

TEST_CASE("results and samples have the harness's keys") {
  const TaskDefinition arc = definition("arc_easy");
  const Task t = task(arc, {question({"a", "b"}, 1)}, "arc_easy");
  const std::vector<TokenScore> scores = {{-1.5, false}, {-0.25, true}};
  const std::vector<TaskResult> results = {task_result(t, scores)};
  const Json out = results_json(results, {.checkpoint = "run", .precision = "fp32", .bos = true, .max_length = 64});
  CHECK(out["results"]["arc_easy"]["acc,none"] == 1.0);
  CHECK(out["results"]["arc_easy"]["acc_stderr,none"] == "N/A");  // of one document
  CHECK(out["results"]["arc_easy"]["acc_norm,none"] == 1.0);
  CHECK(out["n-samples"]["arc_easy"]["effective"] == 1);
  CHECK(out["higher_is_better"]["arc_easy"]["acc"] == true);
  CHECK(out["configs"]["arc_easy"]["output_type"] == "multiple_choice");
  CHECK(out["config"]["model_args"]["add_bos_token"] == true);
  CHECK(out["strand"]["levels"]["arc_easy"]["chance"] == 0.5);
  const Json sample = Json::parse(samples_text(results[0]));
  CHECK(sample["doc_id"] == 0);
  CHECK(sample["doc"] == Json{{"id", 1}});
  CHECK(sample["target"] == 1);
  CHECK(sample["arguments"]["gen_args_1"]["arg_0"] == "Q");
  CHECK(sample["arguments"]["gen_args_1"]["arg_1"] == " b");
  CHECK(sample["resps"] == Json::parse(R"([[["-1.5", "False"]], [["-0.25", "True"]]])"));
  CHECK(sample["filtered_resps"] == Json::parse(R"([["-1.5", "False"], ["-0.25", "True"]])"));
  CHECK(sample["acc"] == 1.0);
  // printf 'Q' | sha256sum
  CHECK(sample["prompt_hash"] == "4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260");
}
