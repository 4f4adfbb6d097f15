#pragma once
// The chat templates that have a name in strand, as the models that made them known were trained with them.
#include <string>
#include <vector>

#include "chat/chat_template.h"

namespace strand {

const std::vector<ChatTemplate>& named_templates();
/// null when there is none of this name.
const ChatTemplate* find_named_template(const std::string& name);
/// "chatml, deepseek, ..."
std::string template_names();

/// The template that a program in Jinja is, when it is one that strand knows: what exports write for the named
/// templates, and the programs that published models have for them. Line ends and white space at both ends do not
/// matter, everything else does. null = an unknown program.
const ChatTemplate* recognize_jinja(const std::string& program);

}  // namespace strand
