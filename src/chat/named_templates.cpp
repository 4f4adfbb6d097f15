#include "chat/named_templates.h"

#include "chat/jinja.h"
#include "core/file_io.h"

namespace strand {

namespace {
/// Of OpenAI; Qwen and many others.
ChatTemplate chatml() {
  ChatTemplate t;
  t.name = "chatml";
  t.system_prefix = "<|im_start|>system\n";
  t.user_prefix = "<|im_start|>user\n";
  t.assistant_prefix = t.generation_prompt = "<|im_start|>assistant\n";
  t.system_suffix = t.user_suffix = t.assistant_suffix = "<|im_end|>\n";
  return t;
}

/// Of DeepSeek-MoE-chat and DeepSeek-V2-Chat, the second of which has system messages.
ChatTemplate deepseek() {
  ChatTemplate t;
  t.name = "deepseek";
  t.bos = true;
  t.system_suffix = "\n\n";
  t.user_prefix = "User: ";
  t.user_suffix = "\n\n";
  t.assistant_prefix = "Assistant: ";
  t.assistant_suffix = "{eos}";
  t.generation_prompt = "Assistant:";
  return t;
}

/// Of Ling 2.0, which answers without a chain of thought when the system message says so.
ChatTemplate ling() {
  ChatTemplate t;
  t.name = "ling";
  t.default_system = "detailed thinking off";
  t.system_prefix = "<role>SYSTEM</role>";
  t.user_prefix = "<role>HUMAN</role>";
  t.assistant_prefix = t.generation_prompt = "<role>ASSISTANT</role>";
  t.system_suffix = t.user_suffix = t.assistant_suffix = "<|role_end|>";
  return t;
}

/// Of Llama-2-chat. Each turn of a user begins a new text.
ChatTemplate llama2() {
  ChatTemplate t;
  t.name = "llama2";
  t.system_place = SystemPlace::first_user_turn;
  t.trim = true;
  t.system_prefix = "<<SYS>>\n";
  t.system_suffix = "\n<</SYS>>\n\n";
  t.user_prefix = "{bos}[INST] ";
  t.user_suffix = " [/INST]";
  t.assistant_prefix = " ";
  t.assistant_suffix = " {eos}";
  return t;
}

/// Of Mistral-7B-Instruct 0.1 and 0.2 and of Mixtral-8x7B-Instruct.
ChatTemplate mistral() {
  ChatTemplate t;
  t.name = "mistral";
  t.bos = true;
  t.system_place = SystemPlace::first_user_turn;
  t.system_suffix = "\n\n";
  t.user_prefix = " [INST] ";
  t.user_suffix = " [/INST]";
  t.assistant_prefix = " ";
  t.assistant_suffix = "{eos}";
  return t;
}

/// Of Stanford Alpaca, and of base models that are fine-tuned on instructions.
ChatTemplate alpaca() {
  ChatTemplate t;
  t.name = "alpaca";
  t.bos = true;
  t.default_system =
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
  t.system_suffix = "\n\n";
  t.user_prefix = "### Instruction:\n";
  t.user_suffix = "\n\n";
  t.assistant_prefix = t.generation_prompt = "### Response:\n";
  t.assistant_suffix = "{eos}\n\n";
  return t;
}

/// Programs of published models, by the XXH3-64 of their normalized text. tests/chat holds the programs.
struct Published {
  const char* digest;
  const char* name;
};
constexpr Published published[] = {
    {"4c6e807ee5fe9f4a", "chatml"},
    {"f64ecff9c8ef587d", "deepseek"},
    {"24f6d97f87d647f5", "llama2"},
    {"f89cfc57f651ff3d", "mistral"},
};

std::string normalized(const std::string& program) {
  std::string text;
  for (size_t i = 0; i < program.size(); ++i) {
    if (program[i] == '\r' && i + 1 < program.size() && program[i + 1] == '\n') continue;
    text += program[i];
  }
  return trimmed(std::move(text));
}

std::string digest_of(const std::string& text) {
  DigestStream digest;
  digest.add(text.data(), text.size());
  return digest.digest().xxh3;
}
}  // namespace

const std::vector<ChatTemplate>& named_templates() {
  static const std::vector<ChatTemplate> all = {chatml(), deepseek(), ling(), llama2(), mistral(), alpaca()};
  return all;
}

const ChatTemplate* find_named_template(const std::string& name) {
  for (const ChatTemplate& t : named_templates())
    if (t.name == name) return &t;
  return nullptr;
}

std::string template_names() {
  std::string names;
  for (const ChatTemplate& t : named_templates()) names += (names.empty() ? "" : ", ") + t.name;
  return names;
}

const ChatTemplate* recognize_jinja(const std::string& program) {
  const std::string text = normalized(program);
  for (const ChatTemplate& t : named_templates())
    if (text == normalized(to_jinja(t))) return &t;
  const std::string digest = digest_of(text);
  for (const Published& known : published)
    if (digest == known.digest) return find_named_template(known.name);
  return nullptr;
}

}  // namespace strand
