#pragma once
// Conversations, and the JSON in which they are written.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace strand {

enum class Role : uint8_t { system, user, assistant };
const char* to_string(Role role);

struct Message {
  Role role = Role::user;
  std::string content;  ///< UTF-8
};

struct Conversation {
  std::vector<Message> messages;  ///< at least one
  std::string where;              ///< in messages: "talk.jsonl: line 3"
};

/// Collects the conversations of a file of JSON objects, one a line. There are two forms:
///   {"messages": [{"role": "user", "content": "Hello"}, ...]}   each line is a conversation
///   {"role": "user", "content": "Hello"}                        each line is a message, and the file one conversation
/// A role is system, user or assistant. A content is a string, or a list of {"type": "text", "text": ...}, whose texts
/// are joined.
class ConversationReader {
 public:
  /// `where` is "FILE: line N". Throws Error that names it and the key at fault.
  void add(const nlohmann::ordered_json& record, const std::string& where);
  /// Throws Error naming `file` when it holds no conversation.
  std::vector<Conversation> finish(const std::string& file);

 private:
  enum class Form : uint8_t { unknown, conversations, messages };
  void settle(Form form, const std::string& where);

  Form form_ = Form::unknown;
  std::vector<Conversation> conversations_;
};

}  // namespace strand
