#include "cli/generate_prompts.h"

#include <algorithm>

#include "cli/standard_input.h"
#include "core/error.h"
#include "core/file_io.h"
#include "data/utf8.h"
#include "tasks/record.h"

namespace strand::cli {

namespace {
constexpr uint64_t max_prompt_file_bytes = uint64_t{1} << 30;
}  // namespace

std::vector<std::string> read_prompts(const std::string& path) {
  constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  std::string text = read_file(input_path(path), max_prompt_file_bytes);
  if (text.starts_with(byte_order_mark)) text.erase(0, byte_order_mark.size());
  require(!text.empty(), "{} holds no prompt: one a line", path);
  const size_t bad = first_invalid_utf8(text);
  require(bad == text.size(), "{}: not UTF-8 in line {}; convert it first (iconv -t UTF-8)", path,
          1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(bad), '\n'));
  std::vector<std::string> prompts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    prompts.push_back(text.substr(begin, end - begin));
    if (!prompts.back().empty() && prompts.back().back() == '\r') prompts.back().pop_back();
    begin = end + 1;
  }
  return prompts;
}

std::vector<Conversation> read_chat(const std::string& path) {
  ConversationReader reader;
  for_each_record(input_path(path), [&](const nlohmann::ordered_json& record, const std::string& where) {
    reader.add(record, where);
    return true;
  });
  std::vector<Conversation> conversations = reader.finish(path);
  for (const Conversation& c : conversations)
    require(c.messages.back().role == Role::user,
            "{}: the last message is of the {}; generate writes the answer to a message of the user", c.where,
            to_string(c.messages.back().role));
  return conversations;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<int32_t> ids;
  if (tokenizer.begins_with_bos()) ids.push_back(tokenizer.bos_id());
  tokenizer.encode(prompt, ids);
  return ids;
}

}  // namespace strand::cli
