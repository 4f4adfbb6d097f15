// Generation as the program does it: conversations, where texts end, log-probabilities; and chat templates on their way
// from a configuration or an imported model through checkpoints into exports.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {
Outcome succeeded(const std::vector<std::string>& arguments) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(arguments[0] << ": " << outcome.err);
  CHECK(outcome.status == 0);
  return outcome;
}

std::string refused(const std::vector<std::string>& arguments, int status = 1) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(arguments[0] << ": " << outcome.err);
  CHECK(outcome.status == status);
  return outcome.err;
}

void train_whole() {
  static const bool done = [] {
    workspace().trained("whole");
    return true;
  }();
  (void)done;
}

void write(const fs::path& name, const std::string& text) {
  fs::create_directories((workspace().root() / name).parent_path());
  std::ofstream(workspace().root() / name) << text;
}

std::vector<std::string> generate(const std::string& run, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"generate", run, "--temperature", "0", "--context", "200", "--ignore-eos"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<json> json_lines(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = arguments;
  all.emplace_back("--json");
  std::istringstream lines(succeeded(all).out);
  std::vector<json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line));
  return objects;
}

json only(const std::vector<std::string>& arguments) {
  const std::vector<json> objects = json_lines(arguments);
  REQUIRE(objects.size() == 1);
  return objects[0];
}

/// Three letters or signs somewhere after the begin of a text.
std::string some_letters(const std::string& text) {
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~'; };
  for (size_t i = 5; i + 3 <= text.size(); ++i)
    if (is_plain(text[i]) && is_plain(text[i + 1]) && is_plain(text[i + 2])) return text.substr(i, 3);
  FAIL("no letters in '" << text << "'");
  return "";
}

const std::string talk =
    R"({"messages": [{"role": "user", "content": "The river"}, {"role": "assistant", "content": "lost"}, )"
    R"({"role": "user", "content": "A bird"}]})"
    "\n";
}  // namespace

TEST_CASE("a text ends before a stop text or at a stop id, and says so") {
  train_whole();
  const auto with = [](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"--prompt", "The river", "--max-tokens", "30"};
    all.insert(all.end(), more.begin(), more.end());
    return only(generate("runs/whole", all));
  };
  const json whole = with({});
  const std::string text = whole["text"];
  REQUIRE(text.size() > 12);
  CHECK(whole["ending"] == "max_tokens");
  CHECK(whole["ids"].size() == 30);
  CHECK(whole["log_probs"].size() == 30);
  CHECK(whole["prompt_ids"].size() > 1);

  const std::string stop = some_letters(text);
  const json stopped = with({"--stop", "#never#", "--stop", stop});
  CHECK(stopped["text"] == text.substr(0, text.find(stop)));
  CHECK(stopped["ending"] == "stop");
  CHECK(stopped["stop"] == stop);
  CHECK_FALSE(stopped.contains("stop_id"));

  const std::vector<int> ids = whole["ids"];
  const json at_id = with({"--stop-id", "319", "--stop-id", std::to_string(ids[5])});
  const auto first = std::find_if(ids.begin(), ids.end(), [&](int id) { return id == ids[5] || id == 319; });
  CHECK(at_id["ids"] == std::vector<int>(ids.begin(), first));
  CHECK(at_id["ending"] == "stop_id");
  CHECK(at_id["stop_id"] == *first);
  CHECK_THAT(refused(generate("runs/whole", {"--prompt", "The river", "--stop-id", "320"})),
             Contains("--stop-id 320") && Contains("0 to 319"));

  // Printed as text, alone (while it grows) and in company.
  const auto printed = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"--prompt", "The river", "--max-tokens", "30", "--stop", stop};
    all.insert(all.end(), more.begin(), more.end());
    return succeeded(generate("runs/whole", all)).out;
  };
  const std::string cut = "The river" + text.substr(0, text.find(stop)) + "\n";
  CHECK(printed({}) == cut);
  CHECK_THAT(printed({"--prompt", "The river"}), Contains("=== 2 of 2 ===\n" + cut));
}

TEST_CASE("log-probabilities of new tokens add up to what score says of their text") {
  train_whole();
  int compared = 0;
  for (const char* count : {"1", "2", "3", "5", "8", "12"}) {
    const json made =
        only(generate("runs/whole", {"--prompt", "The river", "--max-tokens", count, "--precision", "fp32"}));
    double sum = 0;
    for (const double log_prob : made["log_probs"]) sum += log_prob;
    write("pairs.jsonl", json{{"context", "The river"}, {"continuation", made["text"]}}.dump());
    const json score = json::parse(succeeded({"score", "runs/whole", "pairs.jsonl", "--precision", "fp32"}).out);
    // Where all tokens of the text are the most likely ones, they are those that were generated. Elsewhere the
    // tokenizer cuts the text in another way.
    if (score["greedy"] != true) continue;
    ++compared;
    CHECK(score["log_likelihood"].get<double>() == Approx(sum).epsilon(1e-4));  // fp32, sums in another order
  }
  CHECK(compared > 0);

  const json line = only(generate("runs/whole", {"--prompt", "The river", "--max-tokens", "12"}));
  const std::string table =
      succeeded(generate("runs/whole", {"--prompt", "The river", "--max-tokens", "12", "--log-probs"})).out;
  CHECK_THAT(table, Contains("log prob"));
  for (const int id : line["ids"]) CHECK_THAT(table, Contains(" " + std::to_string(id) + "  \""));
}

TEST_CASE("conversations are answered with the template that was chosen") {
  train_whole();
  write("talk.jsonl", talk + R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]})");
  write("one.jsonl", R"({"role": "user", "content": "The river"})"
                     "\n"
                     R"({"role": "assistant", "content": "lost"})"
                     "\n"
                     R"({"role": "user", "content": "A bird"})");
  const std::vector<json> two =
      json_lines(generate("runs/whole", {"--chat", "talk.jsonl", "--template", "mistral", "--max-tokens", "8"}));
  REQUIRE(two.size() == 2);
  const json one = only(generate("runs/whole", {"--chat", "one.jsonl", "--template", "mistral", "--max-tokens", "8"}));
  CHECK(one["ids"] == two[0]["ids"]);
  CHECK(one["prompt_ids"] == two[0]["prompt_ids"]);

  // <s> and </s> are 1 and 2: the beginning, and after the first answer.
  const std::vector<int> prompt = one["prompt_ids"];
  CHECK(std::count(prompt.begin(), prompt.end(), 1) == 1);
  CHECK(prompt[0] == 1);
  CHECK(std::count(prompt.begin(), prompt.end(), 2) == 1);
  const json other =
      only(generate("runs/whole", {"--chat", "one.jsonl", "--template", "deepseek", "--max-tokens", "8"}));
  CHECK(other["prompt_ids"] != one["prompt_ids"]);

  const std::string answer =
      succeeded(generate("runs/whole", {"--chat", "one.jsonl", "--template", "mistral", "--max-tokens", "8"})).out;
  CHECK(answer == one["text"].get<std::string>() + "\n");
  CHECK_THAT(
      succeeded(generate("runs/whole", {"--chat", "one.jsonl", "--template", "chatml", "--max-tokens", "2"})).err,
      Contains("none of the special tokens of chat template chatml"));
}

TEST_CASE("what cannot be answered is refused by file, line and reason") {
  train_whole();
  write("answered.jsonl", R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})");
  write("broken.jsonl", talk + "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}");
  write("twice.jsonl", R"({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]})");
  write("talk.jsonl", talk);
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "answered.jsonl", "--template", "alpaca"})),
             Contains("answered.jsonl: line 1") && Contains("the last message is of the assistant"));
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "broken.jsonl", "--template", "alpaca"})),
             Contains("broken.jsonl: line 2: message 1") && Contains("tool"));
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "twice.jsonl", "--template", "llama2"})),
             Contains("twice.jsonl: line 1: message 2") && Contains("alternate"));
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "talk.jsonl"})),
             Contains("has no chat template") && Contains("--template"));
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "talk.jsonl", "--template", "lama2"})), Contains("'lama2'"));
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "talk.jsonl", "--prompt", "x"}), 2), Contains("--chat"));
  CHECK_THAT(refused(generate("runs/whole", {"--prompt", "x", "--template", "alpaca"}), 2), Contains("--template"));
  CHECK_THAT(refused(generate("runs/whole", {"--prompt", "x", "--json", "--print-ids"}), 2), Contains("--json"));
  CHECK_THAT(refused(generate("runs/whole", {"--prompt", "x", "--stop", ""}), 2), Contains("--stop"));
}

TEST_CASE("a template of one's own answers, and is exported") {
  train_whole();
  write("own.yaml",
        "user_prefix: \"Q: \"\nuser_suffix: \"\\n\"\nassistant_prefix: \"A:\"\nassistant_suffix: \" #\\n\"\n");
  write("bad.yaml", "user_prefix: x\nprefix: y\n");
  write("talk.jsonl", talk);
  const json line =
      only(generate("runs/whole", {"--chat", "talk.jsonl", "--template", "own.yaml", "--max-tokens", "8"}));
  CHECK(line["ids"].size() == 8);
  CHECK_THAT(refused(generate("runs/whole", {"--chat", "talk.jsonl", "--template", "bad.yaml"})),
             Contains("bad.yaml:2: prefix: there is no such key"));
  succeeded({"export", "runs/whole", "--template", "own.yaml", "--out", "own-hf"});
  CHECK_THAT(bytes_of(workspace().root() / "own-hf/chat_template.jinja"), Contains("'Q: ' + message['content']"));
}

TEST_CASE("the template that a configuration names is in the checkpoints, answers, and is exported") {
  train_whole();
  write("talk.jsonl", talk);
  const std::string yaml =
      "user_prefix: \"Q: \"\nuser_suffix: \"\\n\"\nassistant_prefix: \"A:\"\nassistant_suffix: \"{eos}\\n\"\n";
  write("ours.yaml", yaml);
  const std::vector<std::string> ours = {"--set", "data.chat_template=ours.yaml", "--set", "train.steps=4"};
  workspace().trained("ours", ours);
  CHECK(bytes_of(workspace().checkpoint("ours", 4) / "chat_template.yaml") == yaml);
  const std::vector<std::string> more = {"--chat", "talk.jsonl", "--max-tokens", "8", "--precision", "fp32"};
  std::vector<std::string> chosen = more;
  chosen.insert(chosen.end(), {"--template", "ours.yaml"});
  CHECK(only(generate("runs/ours", more)) == only(generate("runs/ours", chosen)));
  succeeded({"export", "runs/ours", "--out", "ours-hf"});
  const fs::path exported = workspace().root() / "ours-hf";
  const std::string program = bytes_of(exported / "chat_template.jinja");
  CHECK_THAT(program, Contains("'Q: ' + message['content']"));
  CHECK(json::parse(bytes_of(exported / "tokenizer_config.json"))["chat_template"] == program);
  succeeded({"export", "runs/ours", "--format", "gguf", "--out", "ours.gguf"});
  CHECK_THAT(bytes_of(workspace().root() / "ours.gguf"), Contains("tokenizer.chat_template") && Contains(program));

  // A run that goes on without the key keeps the template; with another one it changes it, and says so.
  workspace().trained(
      "heir", {"--resume", workspace().checkpoint("ours", 4).string(), "--weights-only", "--set", "train.steps=4"});
  CHECK(bytes_of(workspace().checkpoint("heir", 4) / "chat_template.yaml") == yaml);
  const Outcome other = succeeded(
      workspace().train("heir", {"--resume", "auto", "--set", "train.steps=5", "--set", "data.chat_template=llama2"}));
  CHECK_THAT(other.err, Contains("llama2 takes the place of") && Contains("chat_template.yaml"));
  CHECK_FALSE(fs::exists(workspace().checkpoint("heir", 5) / "chat_template.yaml"));
  succeeded({"export", "runs/heir", "--out", "heir-hf"});
  CHECK_THAT(bytes_of(workspace().root() / "heir-hf/chat_template.jinja"), Contains("[INST]"));
}

TEST_CASE("a template that a run cannot use is refused before it trains") {
  const auto refusal = [](const std::vector<std::string>& more) {
    return refused(workspace().train("untrained", more));
  };
  write("broken.yaml", "user_prefix: x\nprefix: y\n");
  CHECK_THAT(refusal({"--set", "data.chat_template=lama2"}), Contains("'lama2'") && Contains("chatml, deepseek"));
  CHECK_THAT(refusal({"--set", "data.chat_template=broken.yaml"}), Contains("broken.yaml:2: prefix"));
  CHECK_THAT(refusal({"--set", "data.chat_template=llama2", "--set", "data.tokenizer=", "--set",
                      fmt::format("model.vocab_size={}", Workspace::vocab_size)}),
             Contains("data.chat_template is llama2") && Contains("set data.tokenizer"));
  CHECK_FALSE(fs::exists(workspace().run("untrained") / "checkpoints"));
}

TEST_CASE("a named template is exported as a program, and comes back from the export") {
  train_whole();
  write("talk.jsonl", talk);
  succeeded({"export", "runs/whole", "--template", "llama2", "--out", "llama2-hf"});
  const fs::path exported = workspace().root() / "llama2-hf";
  const std::string program = bytes_of(exported / "chat_template.jinja");
  CHECK(json::parse(bytes_of(exported / "tokenizer_config.json"))["chat_template"] == program);
  CHECK_THAT(succeeded({"import", "llama2-hf", "--out", "runs/llama2"}).err, Contains("the chat template is llama2"));
  const std::vector<std::string> more = {"--chat", "talk.jsonl", "--max-tokens", "8", "--precision", "fp32"};
  std::vector<std::string> chosen = more;
  chosen.insert(chosen.end(), {"--template", "llama2"});
  CHECK(only(generate("runs/llama2", more)) == only(generate("runs/whole", chosen)));
}

TEST_CASE("what a model was imported with goes through training into exports, byte for byte") {
  train_whole();
  write("talk.jsonl", talk);
  const std::string program = "{# theirs #}{% for m in messages %}{{ m.content }}|{% endfor %}\r\n\n",
                    tools = "{{ tools }}";
  succeeded({"export", "runs/whole", "--out", "theirs"});
  const fs::path theirs = workspace().root() / "theirs";
  json config = json::parse(bytes_of(theirs / "tokenizer_config.json"));
  config["chat_template"] =
      json::array({{{"name", "default"}, {"template", program}}, {{"name", "tool_use"}, {"template", tools}}});
  std::ofstream(theirs / "tokenizer_config.json") << config.dump();
  json generation = json::parse(bytes_of(theirs / "generation_config.json"));
  std::vector<int> ends = {2};
  for (int id = 300; id < Workspace::vocab_size; ++id) ends.push_back(id);
  generation["eos_token_id"] = ends;
  generation["temperature"] = 0.6;
  std::ofstream(theirs / "generation_config.json") << generation.dump();

  CHECK_THAT(succeeded({"import", "theirs", "--out", "runs/theirs"}).err,
             Contains("none of those that strand knows") && Contains("--template"));
  CHECK_THAT(refused(generate("runs/theirs", {"--chat", "talk.jsonl"})),
             Contains("chat_template.jinja") && Contains("no interpreter of Jinja") && Contains("--template: chatml"));
  CHECK(!succeeded(generate("runs/theirs", {"--chat", "talk.jsonl", "--template", "alpaca", "--max-tokens", "4"}))
             .out.empty());

  const fs::path imported = workspace().checkpoint("theirs", 0);
  workspace().trained("tuned", {"--resume", imported.string(), "--weights-only", "--set", "train.steps=4"});
  succeeded({"export", "runs/tuned", "--out", "tuned-hf"});
  const fs::path tuned = workspace().root() / "tuned-hf";
  CHECK(bytes_of(tuned / "chat_template.jinja") == program);
  CHECK(bytes_of(tuned / "additional_chat_templates/tool_use.jinja") == tools);
  CHECK(json::parse(bytes_of(tuned / "tokenizer_config.json"))["chat_template"] == config["chat_template"]);
  CHECK(json::parse(bytes_of(tuned / "generation_config.json"))["eos_token_id"] == json(ends));
  const Outcome replaced = succeeded({"export", "runs/tuned", "--template", "alpaca", "--out", "replaced-hf"});
  CHECK_THAT(replaced.err, Contains("alpaca is exported, and not"));
  CHECK(bytes_of(workspace().root() / "replaced-hf/chat_template.jinja") != program);
  succeeded({"export", "runs/tuned", "--format", "gguf", "--out", "tuned.gguf"});
  CHECK_THAT(bytes_of(workspace().root() / "tuned.gguf"),
             Contains("tokenizer.chat_template") && Contains(program) && Contains("tokenizer.chat_template.tool_use"));

  // Each of the ids ends a text; at this temperature all are about as likely, and one of them comes soon.
  const std::vector<std::string> texts = {"generate",      "runs/theirs", "--prompt",     "The river",
                                          "--context",     "200",         "--max-tokens", "150",
                                          "--temperature", "20",          "--json"};
  const json line = json::parse(succeeded(texts).out);
  CHECK(line["ending"] == "stop_id");
  CHECK(std::count(ends.begin(), ends.end(), line["stop_id"].get<int>()) == 1);

  generation["eos_token_id"] = {2, 320};
  std::ofstream(theirs / "generation_config.json") << generation.dump();
  CHECK_THAT(refused({"import", "theirs", "--out", "runs/beyond"}),
             Contains("generation_config.json: eos_token_id: 320 is no id of a vocabulary of 320"));
}
