// Task files: prompts letter by letter, the variants of their fields, and errors that name file, line and field.
#include <algorithm>

#include "pseudo_scorer.h"
#include "tasks/evaluate.h"
#include "tasks/pairs.h"
#include "tasks/record.h"
#include "tests/catch.h"
#include "tests/checkpoint/fixtures.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;

namespace {
const std::string samples = STRAND_SOURCE_DIR "/tests/tasks/data";

std::vector<TaskDocument> documents(const std::string& task, const std::string& file, const std::string& lines) {
  const TemporaryDirectory directory;
  put(directory / file, lines);
  return load_task(task, directory.path(), 0)[0].documents;
}

/// The one document of one line.
TaskDocument document(const std::string& task, const std::string& line) {
  std::string file = task + ".jsonl";
  if (task.starts_with("truthfulqa")) file = "truthfulqa.jsonl";
  return documents(task, file, line)[0];
}

std::vector<std::string> continuations(const TaskDocument& document) {
  std::vector<std::string> all;
  for (const TextRequest& request : document.requests) all.push_back(request.continuation);
  return all;
}

using Texts = std::vector<std::string>;

/// What lm-evaluation-harness 0.4.13 makes of the files in tests/tasks/data, by make_golden.py.
struct Golden {
  const char* task;
  size_t requests;
  const char* hash;
  std::vector<std::pair<const char*, double>> metrics;
};

#include "golden_samples.inc"
}  // namespace

TEST_CASE("prompts and metrics of the samples are the harness's") {
  for (const Golden& golden : goldens) {
    INFO(golden.task);
    std::string name = golden.task;
    const std::vector<Task> tasks = load_tasks({name.starts_with("mmlu_") ? "mmlu" : name}, samples, 0);
    const auto task = std::find_if(tasks.begin(), tasks.end(), [&](const Task& t) { return t.name == name; });
    REQUIRE(task != tasks.end());
    const std::vector<Task> one = {*task};
    const std::vector<TextRequest> requests = requests_of(one);
    CHECK(requests.size() == golden.requests);
    CHECK(prompt_hash(requests) == golden.hash);
    PseudoScorer scorer;
    const std::vector<TaskResult> results = evaluate_tasks(one, scorer);
    REQUIRE(results[0].metrics.size() == golden.metrics.size());
    for (size_t m = 0; m < golden.metrics.size(); ++m) {
      CHECK(results[0].metrics[m].name == golden.metrics[m].first);
      // Sums in another order, and another library's exp: the last digits.
      CHECK(results[0].metrics[m].value == Approx(golden.metrics[m].second).epsilon(1e-12));
    }
  }
}

TEST_CASE("the prompt of each benchmark") {
  const TaskDocument boolq = document("boolq", R"({"question": "is it", "passage": "P.", "label": 1})");
  CHECK(boolq.requests[0].context == "P.\nQuestion: is it?\nAnswer:");
  CHECK(continuations(boolq) == Texts{" no", " yes"});
  CHECK(boolq.gold == 1);

  const TaskDocument mmlu = document("mmlu", R"({"question": " Q\n", "subject": "us_foreign_policy", )"
                                             R"("choices": ["a", "b", "c", "d"], "answer": 3})");
  CHECK(mmlu.requests[0].context ==
        "The following are multiple choice questions (with answers) about us foreign policy.\n\nQ\nA. a\nB. b\nC. "
        "c\nD. d\nAnswer:");
  CHECK(continuations(mmlu) == Texts{" A", " B", " C", " D"});

  const TaskDocument winogrande =
      document("winogrande", R"({"sentence": "The _ is  big. ", "option1": "a", "option2": "b", "answer": "2"})");
  CHECK(winogrande.requests[0].context == "The a");
  CHECK(winogrande.requests[1].context == "The b");
  CHECK(continuations(winogrande) == Texts{" is  big.", " is  big."});
  CHECK(winogrande.gold == 1);

  const TaskDocument lambada = document("lambada", R"({"text": "one  two three"})");
  CHECK(lambada.requests[0].context == "one  two");
  CHECK(continuations(lambada) == Texts{" three"});

  const TaskDocument hellaswag =
      document("hellaswag",
               R"({"activity_label": "A", "ctx_a": "B.", "ctx_b": "c D", "endings": ["[x] e", "f"], "label": "1"})");
  CHECK(hellaswag.requests[0].context == "A: B. C d");
  CHECK(continuations(hellaswag) == Texts{"  e", " f"});  // the space stays, and the delimiter comes before it
  CHECK(hellaswag.choices == Texts{" e", "f"});

  const TaskDocument truth = document(
      "truthfulqa_mc2", R"({"question": "Why?", "mc2_targets": {"choices": ["a", "b", "c"], "labels": [0, 1, 1]}})");
  CHECK(sha256(truth.requests[0].context.substr(0, 573)).starts_with("5c0da5f3"));
  CHECK(truth.requests[0].context.substr(573) == "\n\nQ: Why?\nA:");
  CHECK(truth.right == std::vector<uint8_t>{0, 1, 1});

  const TaskDocument sciq = document("sciq", R"({"question": "Q", "distractor1": "a", "distractor2": "b",)"
                                             R"( "distractor3": "c", "correct_answer": "d", "support": "  S "})");
  CHECK(sciq.requests[0].context == "S \nQuestion: Q\nAnswer:");
  CHECK(sciq.gold == 3);
}

TEST_CASE("other layouts of the same data") {
  const TaskDocument original = document("boolq", R"({"question": "q", "title": "T", "passage": "p", "answer": true})");
  CHECK(original.requests[0].context == "T -- p\nQuestion: q?\nAnswer:");
  CHECK(original.gold == 1);
  CHECK(document("boolq", R"({"question": "q", "passage": "p", "answer": "False"})").gold == 0);

  const TaskDocument arc = document("arc_easy", R"({"question": {"stem": "q", "choices": [{"text": "a", "label": "1"},)"
                                                R"( {"text": "b", "label": "2"}]}, "answerKey": "2"})");
  CHECK(arc.requests[0].context == "Question: q\nAnswer:");
  CHECK(arc.gold == 1);

  CHECK(document("hellaswag", R"({"activity_label": "A", "ctx_a": "", "ctx_b": "", "endings": ["e", "f"], "label": 1})")
            .gold == 1);
  const TaskDocument truth =
      document("truthfulqa_mc1", R"({"question": "q", "mc1_targets": {"right": 1, "choices of": 0}})");
  CHECK(truth.choices == Texts{"right", "choices of"});
  CHECK(document("openbookqa", R"({"question_stem": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, )"
                               R"("answerKey": " B"})")
            .gold == 1);

  SECTION("PIQA's labels in a file of their own") {
    const TemporaryDirectory directory;
    put(directory / "piqa.jsonl",
        "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n"
        "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n");
    put(directory / "piqa-labels.lst", "1\n0\n");
    const std::vector<Task> tasks = load_task("piqa", directory.path(), 0);
    CHECK(tasks[0].documents[0].gold == 1);
    CHECK(tasks[0].documents[1].gold == 0);
    put(directory / "piqa-labels.lst", "1\n");
    CHECK_THROWS_WITH(load_task("piqa", directory.path(), 0), Contains("line 2") && Contains("only 1 labels"));
  }
  SECTION("MMLU's subjects in files of their own, as JSON and as CSV") {
    const TemporaryDirectory directory;
    std::filesystem::create_directory(directory / "mmlu");
    put(directory / "mmlu/virology.jsonl",
        "{\"question\": \"q\", \"choices\": [\"a\",\"b\",\"c\",\"d\"], \"answer\": 2}\n");
    put(directory / "mmlu/anatomy_test.csv", "\"a \"\"b\"\",\nc\",1,2,3,\"4,5\",B\r\nplain,w,x,y,z,D\n");
    const std::vector<Task> tasks = load_task("mmlu", directory.path(), 0);
    REQUIRE(tasks.size() == 2);
    CHECK(tasks[0].name == "mmlu_anatomy");
    CHECK(tasks[0].group == "mmlu_stem");
    CHECK_THAT(tasks[0].documents[0].requests[0].context, Contains("a \"b\",\nc\nA. 1") && Contains("D. 4,5\nAnswer:"));
    CHECK(tasks[0].documents[0].gold == 1);
    CHECK(tasks[0].documents[1].gold == 3);
    CHECK_THAT(tasks[1].documents[0].requests[0].context, Contains("about virology."));
    put(directory / "mmlu/anatomy_test.csv", "q,1,2,3,4\n");
    CHECK_THROWS_WITH(load_task("mmlu", directory.path(), 0), Contains("line 1") && Contains("5 cells"));
    put(directory / "mmlu/anatomy_test.csv", "q,1,2,3,4,A\nq,1,2,3,4,E\n");
    CHECK_THROWS_WITH(load_task("mmlu", directory.path(), 0), Contains("line 2") && Contains("\"E\", not A to D"));
    put(directory / "mmlu/anatomy_test.csv", "q,1,2,3,4,A\n\"open,2\n");
    CHECK_THROWS_WITH(load_task("mmlu", directory.path(), 0), Contains("line 2") && Contains("closing quote"));
  }
}

TEST_CASE("a limit takes the first documents, of MMLU those of each subject") {
  const std::vector<Task> easy = load_task("arc_easy", samples, 2);
  CHECK(easy[0].documents.size() == 2);
  CHECK(easy[0].documents_in_file == 4);
  const std::vector<Task> mmlu = load_task("mmlu", samples, 1);
  CHECK(mmlu.size() == 5);
  CHECK(mmlu[0].documents_in_file == 2);
  for (const Task& task : mmlu) CHECK(task.documents.size() == 1);
}

TEST_CASE("what is wrong with a task file is said with file, line and field") {
  const auto refused = [](const std::string& task, const std::string& line) {
    try {
      const std::string good = R"({"question": "q", "passage": "p", "label": 1})";
      documents(task, task + ".jsonl", (task == "boolq" ? good + "\n\n" : "\n\n") + line + "\n");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  CHECK_THAT(refused("boolq", R"({"question": "q"})"), Contains("boolq.jsonl: line 3: \"passage\" is missing"));
  CHECK_THAT(refused("boolq", R"({"question": 7, "passage": "p"})"),
             Contains("\"question\" is a number, not a string"));
  CHECK_THAT(refused("boolq", R"({"question": "q", "passage": "p", "label": 2})"),
             Contains("\"label\" is 2, but choices are numbered from 0 to 1"));
  CHECK_THAT(refused("boolq", R"({"question": "q", "passage": "p", "label": -1})"), Contains("\"label\" is -1"));
  CHECK_THAT(refused("boolq", R"({"question": "q", "passage": "p", "answer": "maybe"})"),
             Contains("\"answer\" is \"maybe\", neither true nor false"));
  CHECK_THAT(refused("boolq", R"({"question": "q", )"), Contains("line 3: bad JSON") && Contains("column"));
  CHECK_THAT(refused("boolq", R"(["question"])"), Contains("line 3: a JSON object was expected, this is an array"));
  CHECK_THAT(refused("boolq", "{\"question\": \"\xff\"}"), Contains("line 3: not UTF-8 at byte 14"));
  CHECK_THAT(
      refused("arc_easy", R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"})"),
      Contains("\"choices\" has 2 texts and 1 labels"));
  CHECK_THAT(
      refused("arc_easy", R"({"question": "q", "choices": {"text": ["a", 3], "label": ["A", "B"]}, "answerKey": "A"})"),
      Contains("line 3: \"choices.text[1]\" is a number, not a string"));
  CHECK_THAT(refused("arc_easy",
                     R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"})"),
             Contains("\"answerKey\" is \"C\", which is the label of no choice"));
  CHECK_THAT(refused("arc_easy",
                     R"({"question": "q", "choices": {"text": ["", "b"], "label": ["A", "B"]}, "answerKey": "A"})"),
             Contains("line 3: choice 1 of the question is empty"));
  CHECK_THAT(refused("winogrande", R"({"sentence": "x", "option1": "a", "option2": "b", "answer": "1"})"),
             Contains("\"sentence\" has no _"));
  CHECK_THAT(refused("winogrande", R"({"sentence": "_ x", "option1": "a", "option2": "b", "answer": ""})"),
             Contains("\"answer\" is \"\", not the number of a choice"));
  CHECK_THAT(refused("mmlu", R"({"question": "q", "subject": "magic", "choices": [], "answer": 0})"),
             Contains("line 3: \"subject\" is \"magic\"") && Contains("57 subjects"));
  CHECK_THAT(refused("lambada", ""), Contains("lambada.jsonl has no record"));
  CHECK_THROWS_WITH(load_task("piqa", samples + "/nowhere", 0),
                    Contains("nowhere holds no piqa.jsonl") && Contains("fetch_tasks.sh"));
  const std::string deep(100, '[');
  CHECK_THAT(refused("boolq", "{\"x\": " + deep + std::string(100, ']') + "}"), Contains("deeper than"));
}

TEST_CASE("lines of any length, wherever the parts end in which a file is read") {
  constexpr auto window = static_cast<int64_t>(record_window_bytes);
  for (const int64_t bytes : {window - 1, window, window + 1, 5 * window / 2}) {
    // Three lines of this length with their line breaks, each of its own letters.
    std::string lines;
    Texts texts;
    for (const char letter : {'a', 'b', 'c'}) {
      std::string text(static_cast<size_t>(bytes) - std::string("{\"text\": \"\"}\n").size(), letter);
      text.front() = text.back() = '.';
      texts.push_back(text);
      lines += "{\"text\": \"" + text + "\"}\n";
    }
    REQUIRE(static_cast<int64_t>(lines.size()) == 3 * bytes);
    INFO(bytes << " bytes a line");
    const TemporaryDirectory directory;
    put(directory / "pairs.jsonl", lines);
    const std::vector<TextRequest> pairs = read_pairs(directory / "pairs.jsonl");
    REQUIRE(pairs.size() == 3);
    for (size_t i = 0; i < 3; ++i) CHECK((pairs[i].continuation == texts[i]));
  }
}

TEST_CASE("pairs: a context and its continuation, or a whole text") {
  const TemporaryDirectory directory;
  const auto read = [&](const std::string& lines) {
    put(directory / "pairs.jsonl", lines);
    return read_pairs(directory / "pairs.jsonl");
  };
  const std::vector<TextRequest> pairs = read(
      "\xEF\xBB\xBF{\"context\": \"a\", \"continuation\": \" b\", \"id\": 3}\r\n"
      "{\"context\": \"\", \"continuation\": \"c\"}\n{\"text\": \"t\"}");
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0].context == "a");
  CHECK(pairs[0].continuation == " b");
  CHECK(pairs[1].context.empty());
  CHECK(pairs[2].likelihood == Likelihood::of_text);
  CHECK(pairs[2].continuation == "t");
  CHECK_THROWS_WITH(read("{\"context\": \"a\"}"), Contains("line 1: \"continuation\" is missing"));
  CHECK_THROWS_WITH(read("{\"context\": \"a\", \"continuation\": \"\"}"), Contains("\"continuation\" is empty"));
  CHECK_THROWS_WITH(read("{\"text\": \"a\", \"context\": \"b\"}"), Contains("stands alone"));
  CHECK_THROWS_WITH(read("\n"), Contains("has no record"));
}
