#include "chat/conversation.h"

#include <fmt/format.h>

#include <array>

#include "core/error.h"
#include "data/utf8.h"

namespace strand {

using nlohmann::ordered_json;

namespace {
constexpr std::array roles = {Role::system, Role::user, Role::assistant};

const ordered_json& member(const ordered_json& object, const char* key, const std::string& where) {
  require(object.is_object(), "{}: a message is an object with \"role\" and \"content\"", where);
  const auto found = object.find(key);
  require(found != object.end(), "{}: \"{}\" is missing", where, key);
  return *found;
}

std::string text_of(const ordered_json& value, const std::string& where) {
  require(value.is_string(), "{} is not a string", where);
  std::string text = value.get<std::string>();
  const size_t bad = first_invalid_utf8(text);
  require(bad == text.size(), "{} is not UTF-8 at byte {}", where, bad);
  return text;
}

Role role_of(const ordered_json& value, const std::string& where) {
  const std::string name = text_of(value, where + ": \"role\"");
  for (const Role role : roles)
    if (name == to_string(role)) return role;
  fail("{}: \"role\" is \"{}\"; there are system, user and assistant", where, name);
}

std::string content_of(const ordered_json& value, const std::string& where) {
  if (!value.is_array()) return text_of(value, where + ": \"content\"");
  std::string joined;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string part = fmt::format("{}: \"content\", part {}", where, i + 1);
    const std::string type = text_of(member(value[i], "type", part), part + ": \"type\"");
    require(type == "text", "{} is of type \"{}\"; only text can be read", part, type);
    joined += text_of(member(value[i], "text", part), part + ": \"text\"");
  }
  return joined;
}

Message message_of(const ordered_json& object, const std::string& where) {
  const ordered_json& role = member(object, "role", where);
  return {role_of(role, where), content_of(member(object, "content", where), where)};
}
}  // namespace

const char* to_string(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
  }
  return "?";
}

void ConversationReader::settle(Form form, const std::string& where) {
  require(form_ == Form::unknown || form_ == form,
          "{}: a file has a conversation on each line (\"messages\") or a message on each line (\"role\"), not both",
          where);
  form_ = form;
}

void ConversationReader::add(const ordered_json& record, const std::string& where) {
  if (!record.contains("messages")) {
    require(record.contains("role"), "{}: neither \"messages\" nor \"role\" is there", where);
    settle(Form::messages, where);
    if (conversations_.empty()) conversations_.push_back({{}, where});
    conversations_[0].messages.push_back(message_of(record, where));
    return;
  }
  settle(Form::conversations, where);
  const ordered_json& messages = record["messages"];
  require(messages.is_array() && !messages.empty(), "{}: \"messages\" is not a list of messages", where);
  Conversation conversation{{}, where};
  for (size_t i = 0; i < messages.size(); ++i)
    conversation.messages.push_back(message_of(messages[i], fmt::format("{}: message {}", where, i + 1)));
  conversations_.push_back(std::move(conversation));
}

std::vector<Conversation> ConversationReader::finish(const std::string& file) {
  require(!conversations_.empty(), "{} holds no conversation: a JSON object with \"messages\" on each line", file);
  return std::move(conversations_);
}

}  // namespace strand
