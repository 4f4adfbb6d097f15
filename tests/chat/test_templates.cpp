// Chat templates: the named ones against transformers, those in YAML, those that checkpoints carry, and conversations.
#include <algorithm>
#include <map>

#include "../checkpoint/fixtures.h"
#include "chat/carried_templates.h"
#include "chat/jinja.h"
#include "chat/named_templates.h"
#include "chat/template_yaml.h"
#include "golden.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;

namespace {
const std::vector<std::string> names = {"chatml", "deepseek", "ling", "llama2", "mistral", "alpaca"};

std::string text(const ChatTemplate& chat_template, const Conversation& conversation, RenderedEnd end) {
  return text_of(render(chat_template, conversation, end), golden()["bos"], golden()["eos"]);
}

/// The messages of one line of a file.
Conversation read(const std::string& line) {
  ConversationReader reader;
  reader.add(nlohmann::ordered_json::parse(line), "talk.jsonl: line 1");
  return reader.finish("talk.jsonl")[0];
}

std::string refusal(const std::string& line) {
  return error_of([&] { read(line); });
}

const std::string small_yaml =
    "user_prefix: \"U \"\nuser_suffix: \"\\n\"\nassistant_prefix: \"A \"\nassistant_suffix: \"{eos}\\n\"\n";

std::string yaml_refusal(const std::string& yaml) {
  return error_of([&] { parse_template(yaml, "own.yaml"); });
}
}  // namespace

TEST_CASE("named templates render what transformers renders with the published programs") {
  const nlohmann::json& conversations = golden()["conversations"];
  REQUIRE(conversations.size() >= 25);
  REQUIRE(named_templates().size() == names.size());
  for (const std::string& name : names) {
    const ChatTemplate* chat_template = find_named_template(name);
    REQUIRE(chat_template != nullptr);
    const nlohmann::json& expected = golden()["templates"][name];
    REQUIRE(expected.size() == conversations.size());
    for (size_t i = 0; i < conversations.size(); ++i) {
      const Conversation conversation = conversation_of(conversations[i]);
      INFO(name << ": " << conversations[i].dump());
      if (expected[i].is_null()) {
        CHECK_THAT(error_of([&] { text(*chat_template, conversation, RenderedEnd::last_message); }),
                   Contains("golden: message") && Contains(name));
        continue;
      }
      const std::string whole = expected[i][0], prompt = expected[i][1];
      CHECK(text(*chat_template, conversation, RenderedEnd::last_message) == whole);
      CHECK(text(*chat_template, conversation, RenderedEnd::generation_prompt) == whole + prompt);
    }
  }
}

TEST_CASE("what a message says is content, and what the template says is not") {
  for (const std::string& name : names) {
    const std::vector<Part> parts =
        render(*find_named_template(name), read(R"({"messages": [{"role": "user", "content": "{bos} {eos}"}]})"),
               RenderedEnd::generation_prompt);
    INFO(name);
    const Part content{Part::Kind::content, "{bos} {eos}"};
    CHECK(std::count(parts.begin(), parts.end(), content) == 1);
    CHECK(std::count_if(parts.begin(), parts.end(), [](const Part& p) { return p.kind == Part::Kind::content; }) == 1);
    CHECK(std::count_if(parts.begin(), parts.end(), [](const Part& p) { return p.kind == Part::Kind::eos; }) == 0);
  }
}

// tests/chat/exported holds what scripts/chat_parity.py has compared with transformers.
TEST_CASE("exported programs are those that were compared with transformers") {
  for (const ChatTemplate& t : named_templates()) {
    INFO(t.name);
    CHECK(to_jinja(t) == file_text("exported/" + t.name + ".jinja"));
  }
}

TEST_CASE("known programs are recognized whatever their line ends, and no others") {
  for (const std::string& name : names) {
    INFO(name);
    const std::string program = to_jinja(*find_named_template(name));
    REQUIRE(recognize_jinja(program) != nullptr);
    CHECK(recognize_jinja(program)->name == name);
    CHECK(recognize_jinja("\n " + program + "\r\n\r\n")->name == name);
    CHECK(recognize_jinja(program + "x") == nullptr);
    std::string other = program;
    other.replace(other.find("message"), 7, "massage");
    CHECK(recognize_jinja(other) == nullptr);
  }
  for (const char* name : {"chatml", "deepseek", "llama2", "mistral"}) {
    INFO(name);
    std::string program = file_text(std::string("published/") + name + ".jinja");
    REQUIRE(recognize_jinja(program) != nullptr);
    CHECK(recognize_jinja(program)->name == name);
    std::string windows;
    for (const char c : program) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
    CHECK(recognize_jinja(windows)->name == name);
  }
  CHECK(recognize_jinja("") == nullptr);
}

TEST_CASE("a template in YAML says what a named one says") {
  const std::string yaml = R"(
bos: true
default_system: Be brief.
system: first_user_turn
trim: true
system_prefix: "<<"
system_suffix: ">>\n"
user_prefix: "{bos}U: "
user_suffix: "\n"
assistant_prefix: 'A: '
assistant_suffix: "{eos}\n"
generation_prompt: "A:"
)";
  const ChatTemplate t = parse_template(yaml, "own.yaml");
  const Conversation question = read(R"({"messages": [{"role": "user", "content": " Hello "}]})");
  CHECK(text(t, question, RenderedEnd::generation_prompt) == "<s><s>U: <<Be brief.>>\n Hello\nA:");
  const Conversation talk = read(
      R"({"messages": [{"role": "system", "content": "X"}, {"role": "user", "content": "a"},
          {"role": "assistant", "content": " b\n"}, {"role": "user", "content": [{"type": "text", "text": "c"},
          {"type": "text", "text": "d"}]}]})");
  CHECK(text(t, talk, RenderedEnd::last_message) == "<s><s>U: <<X>>\na\nA: b</s>\n<s>U: cd\n");

  const ChatTemplate small = parse_template(small_yaml, "small.yml");
  CHECK(small.generation_prompt == "A ");
  CHECK(text(small, talk, RenderedEnd::generation_prompt) == "XU a\nA  b\n</s>\nU cd\nA ");
}

TEST_CASE("a system message at the begin may end in another way than later ones") {
  const std::string yaml = small_yaml + "system_prefix: \"S \"\nsystem_suffix: \"\\n\"\n";
  const ChatTemplate t =
      parse_template(yaml + "first_system_suffix: \" (first)\\n\"\nwithout_system: \"{bos}S (none)\\n\"\n", "own.yaml");
  const auto said = [&](const std::string& messages) {
    return text(t, read(R"({"messages": [)" + messages + "]}"), RenderedEnd::last_message);
  };
  const std::string system = R"({"role": "system", "content": "s"})", user = R"({"role": "user", "content": "u"})";
  CHECK(said(system + "," + user) == "S s (first)\nU u\n");
  CHECK(said(user) == "<s>S (none)\nU u\n");
  CHECK(said(user + "," + system) == "<s>S (none)\nU u\nS s\n");
  CHECK(said(system + "," + system) == "S s (first)\nS s\n");
  CHECK_THAT(yaml_refusal(small_yaml + "system: first_user_turn\nwithout_system: x\n"),
             Contains("own.yaml:6: without_system: has no place"));
  CHECK_THAT(yaml_refusal(small_yaml + "first_system_suffix: x\nsystem: first_user_turn\n"),
             Contains("own.yaml:5: first_system_suffix: has no place"));
  CHECK_THAT(yaml_refusal(small_yaml + "default_system: y\nwithout_system: x\n"),
             Contains("own.yaml:6: without_system: there is default_system already"));
}

TEST_CASE("a template that cannot be read is refused with file, line and key") {
  CHECK_THAT(yaml_refusal(small_yaml + "user_prefix: x\n"), Contains("own.yaml:5: user_prefix: is there twice"));
  CHECK_THAT(yaml_refusal(small_yaml + "prefix: x\n"),
             Contains("own.yaml:5: prefix: there is no such key") && Contains("system_prefix"));
  CHECK_THAT(yaml_refusal(small_yaml + "bos: maybe\n"), Contains("own.yaml:5: bos: 'maybe' is neither false nor true"));
  CHECK_THAT(yaml_refusal(small_yaml + "\nsystem: here\n"), Contains("own.yaml:6: system: 'here' is neither"));
  CHECK_THAT(yaml_refusal(small_yaml + "system_prefix: [x]\n"), Contains("own.yaml:5: system_prefix: expected a text"));
  CHECK_THAT(yaml_refusal(small_yaml + "system_prefix:\n"), Contains("own.yaml:5: system_prefix: expected a text"));
  CHECK_THAT(yaml_refusal(small_yaml + "system_prefix: [x\n"), Contains("own.yaml:"));
  CHECK_THAT(yaml_refusal(small_yaml + "system_prefix: \xFF\n"), Contains("own.yaml: not UTF-8"));
  CHECK_THAT(yaml_refusal("user_prefix: x\nuser_suffix: x\nassistant_prefix: x\n"),
             Contains("own.yaml: assistant_suffix: is missing"));
  CHECK_THAT(yaml_refusal("user_prefix: x\nuser_suffix: x\nassistant_prefix: x\nassistant_suffix: \"\"\n"),
             Contains("own.yaml:4: assistant_suffix: is empty"));
  CHECK_THAT(yaml_refusal("- x\n"), Contains("own.yaml: a chat template is a map"));
  CHECK_THAT(yaml_refusal(""), Contains("own.yaml: a chat template is a map"));
  CHECK_THAT(error_of([] { load_template("chatmel"); }), Contains("'chatmel'") && Contains("chatml, deepseek"));
  CHECK_THAT(error_of([] { load_template("/absent/own.yaml"); }), Contains("/absent/own.yaml"));
}

TEST_CASE("conversations stand on a line each, or one stands on all lines") {
  ConversationReader reader;
  for (const char* line : {R"({"role": "system", "content": "s"})", R"({"role": "user", "content": "u"})"})
    reader.add(nlohmann::ordered_json::parse(line), "talk.jsonl: line 1");
  const std::vector<Conversation> one = reader.finish("talk.jsonl");
  REQUIRE(one.size() == 1);
  CHECK(one[0].messages.size() == 2);
  CHECK(one[0].messages[0].role == Role::system);

  CHECK_THAT(refusal(R"({"text": "x"})"), Contains("talk.jsonl: line 1: neither \"messages\" nor \"role\""));
  CHECK_THAT(refusal(R"({"messages": []})"), Contains("talk.jsonl: line 1: \"messages\""));
  CHECK_THAT(refusal(R"({"messages": ["x"]})"), Contains("line 1: message 1: a message is an object"));
  CHECK_THAT(refusal(R"({"messages": [{"role": "user"}]})"), Contains("message 1: \"content\" is missing"));
  CHECK_THAT(refusal(R"({"messages": [{"role": "tool", "content": "x"}]})"),
             Contains("\"role\" is \"tool\"; there are system, user and assistant"));
  CHECK_THAT(refusal(R"({"messages": [{"role": "user", "content": null}]})"), Contains("\"content\" is not a string"));
  CHECK_THAT(refusal(R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]})"),
             Contains("part 1 is of type \"image_url\""));
  CHECK_THAT(error_of([] {
               ConversationReader mixed;
               mixed.add(nlohmann::ordered_json::parse(R"({"role": "user", "content": "u"})"), "line 1");
               mixed.add(nlohmann::ordered_json::parse(R"({"messages": [{"role": "user", "content": "u"}]})"),
                         "line 2");
             }),
             Contains("line 2") && Contains("not both"));
  CHECK_THAT(error_of([] { ConversationReader().finish("talk.jsonl"); }), Contains("talk.jsonl holds no conversation"));
}

TEST_CASE("the template of a checkpoint: the one chosen, or the program it was imported with") {
  const NamedFiles none;
  const std::string foreign = "{{ 'a template of their own' }}", known = to_jinja(*find_named_template("mistral"));
  const NamedFiles imported = {{jinja_file, foreign}}, imported_known = {{jinja_file, known}};
  const auto chat = [](const std::string& choice, const NamedFiles& carried) {
    return template_for_chat({choice, carried, "ckpt"}).name;
  };
  CHECK(chat("llama2", none) == "llama2");
  CHECK(chat("", imported_known) == "mistral");
  CHECK(chat("alpaca", imported) == "alpaca");
  CHECK_THAT(error_of([&] { chat("", none); }), Contains("ckpt has no chat template") && Contains("--template"));
  CHECK_THAT(error_of([&] { chat("", imported); }), Contains("ckpt/chat_template.jinja") &&
                                                        Contains("no interpreter") && Contains("--template: chatml") &&
                                                        Contains("transformers or llama.cpp"));

  const auto exported = [](const std::string& choice, const NamedFiles& carried) {
    return templates_for_export({choice, carried, "ckpt"});
  };
  CHECK(exported("", none).jinja.empty());
  CHECK_FALSE(exported("", none).known.has_value());
  CHECK(exported("", imported).jinja == foreign);
  CHECK(exported("", imported).remark.empty());
  CHECK_FALSE(exported("", imported).known.has_value());
  CHECK(exported("", imported_known).known->name == "mistral");
  CHECK(exported("mistral", {{jinja_file, known + "\n"}}).jinja == known + "\n");
  CHECK(exported("mistral", {{jinja_file, known + "\n"}}).remark.empty());
  CHECK(exported("chatml", imported).jinja == to_jinja(*find_named_template("chatml")));
  CHECK_THAT(exported("chatml", imported).remark, Contains("chatml") && Contains("ckpt/chat_template.jinja"));
  const ExportedTemplates several = exported("", {{jinja_file, foreign}, {further_jinja_file("tool_use"), "{{ 1 }}"}});
  CHECK(several.jinja == foreign);
  CHECK(several.further == std::map<std::string, std::string>{{"tool_use", "{{ 1 }}"}});
}

TEST_CASE("the template that a run has chosen takes the place of the carried one") {
  const TemporaryDirectory dir;
  const std::string own = dir / "own.yaml", foreign = "{{ 'a template of their own' }}", tools = "{{ tools }}",
                    mistral = to_jinja(*find_named_template("mistral"));
  std::ofstream(own) << small_yaml;
  const NamedFiles nothing = {{"tokenizer.json", "{}"}};
  NamedFiles imported = nothing;
  imported[jinja_file] = foreign;
  imported[further_jinja_file("tool_use")] = tools;
  const auto chosen = [](const std::string& choice, const NamedFiles& carried) {
    return with_chosen_template({choice, carried, "ckpt"});
  };

  NamedFiles expected = nothing;
  expected[jinja_file] = mistral;
  CHECK(chosen("mistral", nothing).files == expected);
  CHECK(chosen("mistral", nothing).remark.empty());
  expected[further_jinja_file("tool_use")] = tools;
  CHECK(chosen("mistral", imported).files == expected);
  CHECK_THAT(chosen("mistral", imported).remark, Contains("mistral takes the place of ckpt/chat_template.jinja"));
  // The program that a model was imported with stays as it is where it is the same template.
  NamedFiles published = nothing;
  published[jinja_file] = file_text("published/mistral.jinja");
  CHECK(chosen("mistral", published).files == published);

  const NamedFiles with_own = chosen(own, imported).files;
  CHECK(with_own.at(template_yaml_file) == small_yaml);
  CHECK_FALSE(with_own.contains(jinja_file));
  CHECK(with_own.at(further_jinja_file("tool_use")) == tools);
  CHECK(chosen(own, with_own).files == with_own);
  CHECK(chosen(own, with_own).remark.empty());
  CHECK_THAT(chosen("mistral", with_own).remark, Contains("ckpt/chat_template.yaml"));
  CHECK(chosen("mistral", with_own).files == expected);

  CHECK(template_for_chat({"", with_own, "ckpt"}).user_prefix == "U ");
  const ExportedTemplates out = templates_for_export({"", with_own, "ckpt"});
  CHECK(out.jinja == to_jinja(parse_template(small_yaml, "own.yaml")));
  CHECK(out.known->assistant_suffix == "{eos}\n");
  CHECK(out.further == std::map<std::string, std::string>{{"tool_use", tools}});
  CHECK_THAT(error_of([&] { chosen("chatmel", nothing); }), Contains("'chatmel'"));
}
