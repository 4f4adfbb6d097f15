#include "chat/template_yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <vector>

#include "chat/named_templates.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/nearest.h"
#include "data/utf8.h"

namespace strand {

namespace {
const std::map<std::string, std::string ChatTemplate::*> texts = {
    {"default_system", &ChatTemplate::default_system},     {"first_system_suffix", &ChatTemplate::first_system_suffix},
    {"without_system", &ChatTemplate::without_system},     {"system_prefix", &ChatTemplate::system_prefix},
    {"system_suffix", &ChatTemplate::system_suffix},       {"user_prefix", &ChatTemplate::user_prefix},
    {"user_suffix", &ChatTemplate::user_suffix},           {"assistant_prefix", &ChatTemplate::assistant_prefix},
    {"assistant_suffix", &ChatTemplate::assistant_suffix}, {"generation_prompt", &ChatTemplate::generation_prompt},
};
const std::map<std::string, bool ChatTemplate::*> flags = {{"bos", &ChatTemplate::bos}, {"trim", &ChatTemplate::trim}};
constexpr const char* place_key = "system";
constexpr std::array required_keys = {"user_prefix", "user_suffix", "assistant_prefix", "assistant_suffix"};

std::vector<std::string> key_names() {
  std::vector<std::string> names = {place_key};
  for (const auto& [name, member] : texts) names.push_back(name);
  for (const auto& [name, member] : flags) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::string known_keys() {
  return fmt::format("{}", fmt::join(key_names(), ", "));
}

class TemplateFile {
 public:
  TemplateFile(const std::string& yaml, const std::string& file) : file_(file) {
    const size_t bad = first_invalid_utf8(yaml);
    require(bad == yaml.size(), "{}: not UTF-8 at byte {}", file, bad);
    try {
      root_ = YAML::Load(yaml);
    } catch (const YAML::Exception& e) {
      fail("{}:{}: {}", file, e.mark.line + 1, e.msg);
    }
    require(root_.IsMap(), "{}: a chat template is a map of keys ({})", file, known_keys());
  }

  ChatTemplate read() {
    ChatTemplate t;
    t.name = file_;
    std::set<std::string> seen;
    for (const auto& entry : root_) {
      if (!entry.first.IsScalar()) fail("{}:{}: a key is a word", file_, entry.first.Mark().line + 1);
      const std::string key = entry.first.Scalar();
      if (!seen.insert(key).second) refuse(entry.first, key, "is there twice");
      read_key(t, key, entry.first, entry.second);
    }
    for (const char* key : required_keys) require(seen.contains(key), "{}: {}: is missing", file_, key);
    if (t.assistant_suffix.empty())
      refuse(root_["assistant_suffix"], "assistant_suffix", "is empty: nothing would tell where an answer ends");
    for (const char* key : {"first_system_suffix", "without_system"})
      if (seen.contains(key) && t.system_place != SystemPlace::own_turn)
        refuse(root_[key], key, "has no place where system is first_user_turn");
    if (seen.contains("without_system") && !t.default_system.empty())
      refuse(root_["without_system"], "without_system", "there is default_system already; only one of them can begin");
    if (!seen.contains("generation_prompt")) t.generation_prompt = t.assistant_prefix;
    return t;
  }

 private:
  void read_key(ChatTemplate& t, const std::string& key, const YAML::Node& at, const YAML::Node& value) const {
    if (const auto text = texts.find(key); text != texts.end()) {
      t.*(text->second) = scalar(key, at, value, "a text");
    } else if (const auto flag = flags.find(key); flag != flags.end()) {
      t.*(flag->second) = choice(key, at, value, "false", "true") == 1;
    } else if (key == place_key) {
      t.system_place = choice(key, at, value, "own_turn", "first_user_turn") == 1 ? SystemPlace::first_user_turn
                                                                                  : SystemPlace::own_turn;
    } else {
      refuse(at, key,
             fmt::format("there is no such key in a chat template{}; there are {}", did_you_mean(key, key_names()),
                         known_keys()));
    }
  }

  std::string scalar(const std::string& key, const YAML::Node& at, const YAML::Node& value, const char* what) const {
    if (!value.IsScalar()) refuse(at, key, fmt::format("expected {}", what));
    const std::string text = value.Scalar();
    if (text.find('\0') != text.npos) refuse(at, key, "holds a byte 0");
    return text;
  }

  /// 0 or 1: which of the two words stands there.
  int choice(const std::string& key, const YAML::Node& at, const YAML::Node& value, const char* zero,
             const char* one) const {
    const std::string words = fmt::format("{} or {}", zero, one), text = scalar(key, at, value, words.c_str());
    if (text != zero && text != one) refuse(at, key, fmt::format("'{}' is neither {} nor {}", text, zero, one));
    return text == one ? 1 : 0;
  }

  [[noreturn]] void refuse(const YAML::Node& at, const std::string& key, const std::string& problem) const {
    fail("{}:{}: {}: {}", file_, at.Mark().line + 1, key, problem);
  }

  std::string file_;
  YAML::Node root_;
};

bool is_file(const std::string& choice) {
  return choice.ends_with(".yaml") || choice.ends_with(".yml");
}
}  // namespace

ChatTemplate parse_template(const std::string& yaml, const std::string& file) {
  return TemplateFile(yaml, file).read();
}

ChatTemplate load_template(const std::string& choice) {
  if (const ChatTemplate* named = find_named_template(choice)) return *named;
  if (is_file(choice)) return parse_template(read_file(choice, max_template_bytes), choice);
  std::vector<std::string> names;
  for (const ChatTemplate& known : named_templates()) names.push_back(known.name);
  fail("there is no chat template '{}'{}: there are {}, and files of your own, which end in .yaml", choice,
       did_you_mean(choice, names), fmt::join(names, ", "));
}

}  // namespace strand
