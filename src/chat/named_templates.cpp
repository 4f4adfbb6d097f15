#include "chat/named_templates.h"

#include "chat/jinja.h"
#include "core/file_io.h"

namespace strand {

namespace {
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
  static const std::vector<ChatTemplate> all = {
      // Of OpenAI; Qwen and many others.
      {
          .name = "chatml",
          .system_prefix = "<|im_start|>system\n",
          .system_suffix = "<|im_end|>\n",
          .user_prefix = "<|im_start|>user\n",
          .user_suffix = "<|im_end|>\n",
          .assistant_prefix = "<|im_start|>assistant\n",
          .assistant_suffix = "<|im_end|>\n",
          .generation_prompt = "<|im_start|>assistant\n",
      },
      // Of DeepSeek-MoE-chat and DeepSeek-V2-Chat, the second of which has system messages.
      {
          .name = "deepseek",
          .bos = true,
          .system_suffix = "\n\n",
          .user_prefix = "User: ",
          .user_suffix = "\n\n",
          .assistant_prefix = "Assistant: ",
          .assistant_suffix = "{eos}",
          .generation_prompt = "Assistant:",
      },
      // Of Ling 2.0. The system turn at the begin, which is always there, ends with the wish for no chain of thought.
      {
          .name = "ling",
          .system_prefix = "<role>SYSTEM</role>",
          .system_suffix = "<|role_end|>",
          .first_system_suffix = "\ndetailed thinking off<|role_end|>",
          .without_system = "<role>SYSTEM</role>detailed thinking off<|role_end|>",
          .user_prefix = "<role>HUMAN</role>",
          .user_suffix = "<|role_end|>",
          .assistant_prefix = "<role>ASSISTANT</role>",
          .assistant_suffix = "<|role_end|>",
          .generation_prompt = "<role>ASSISTANT</role>",
      },
      // Of Llama-2-chat. Each turn of a user begins a new text.
      {
          .name = "llama2",
          .system_place = SystemPlace::first_user_turn,
          .trim = true,
          .system_prefix = "<<SYS>>\n",
          .system_suffix = "\n<</SYS>>\n\n",
          .user_prefix = "{bos}[INST] ",
          .user_suffix = " [/INST]",
          .assistant_prefix = " ",
          .assistant_suffix = " {eos}",
      },
      // Of Mistral-7B-Instruct 0.1 and 0.2 and of Mixtral-8x7B-Instruct.
      {
          .name = "mistral",
          .bos = true,
          .system_place = SystemPlace::first_user_turn,
          .system_suffix = "\n\n",
          .user_prefix = " [INST] ",
          .user_suffix = " [/INST]",
          .assistant_prefix = " ",
          .assistant_suffix = "{eos}",
      },
      // Of Stanford Alpaca, and of base models that are fine-tuned on instructions.
      {
          .name = "alpaca",
          .bos = true,
          .default_system = "Below is an instruction that describes a task. Write a response that appropriately "
                            "completes the request.",
          .system_suffix = "\n\n",
          .user_prefix = "### Instruction:\n",
          .user_suffix = "\n\n",
          .assistant_prefix = "### Response:\n",
          .assistant_suffix = "{eos}\n\n",
          .generation_prompt = "### Response:\n",
      },
  };
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
