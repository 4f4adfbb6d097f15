#pragma once
// What `strand generate` continues: prompts of the command line and of files, or conversations.
#include <cstdint>
#include <string>
#include <vector>

#include "chat/conversation.h"
#include "data/tokenizer.h"

namespace strand::cli {

/// The lines of a file, of a pipe, or of standard input ("-"), without a byte-order mark and without carriage returns.
/// Throws Error naming the file.
std::vector<std::string> read_prompts(const std::string& path);

/// The conversations of a .jsonl (chat/conversation.h), plain, .gz or .zst, or of standard input ("-"). Throws Error
/// naming file and line, also for a conversation that does not end with a message of the user.
std::vector<Conversation> read_chat(const std::string& path);

/// The ids of a prompt, BOS first.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const std::string& prompt);

}  // namespace strand::cli
