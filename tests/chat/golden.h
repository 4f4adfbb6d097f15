#pragma once
// What transformers makes of conversations (golden.json), and files of this folder.
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "chat/chat_template.h"
#include "tests/catch.h"

namespace strand::test {

inline std::string file_text(const std::string& name) {
  std::ifstream in(std::string(STRAND_SOURCE_DIR) + "/tests/chat/" + name, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline const nlohmann::json& golden() {
  static const nlohmann::json file = nlohmann::json::parse(file_text("golden.json"));
  return file;
}

/// A list of [role, content].
inline Conversation conversation_of(const nlohmann::json& messages) {
  Conversation conversation{{}, "golden"};
  for (const nlohmann::json& message : messages) {
    const std::string role = message[0];
    conversation.messages.push_back({role == "system" ? Role::system
                                     : role == "user" ? Role::user
                                                      : Role::assistant,
                                     message[1]});
  }
  return conversation;
}

}  // namespace strand::test
