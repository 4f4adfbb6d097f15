#pragma once
// Chat templates and ids that end a text, in the files of Hugging Face models:
//   chat_template.jinja                     the template
//   tokenizer_config.json: chat_template    the same; of a list of {name, template} the one that is named "default"
//   additional_chat_templates/NAME.jinja    further ones
//   generation_config.json, config.json: eos_token_id
#include <cstdint>
#include <string>
#include <vector>

#include "chat/carried_templates.h"
#include "checkpoint/checkpoint.h"
#include "core/named_files.h"

namespace strand::hf {

/// The files that a checkpoint of an imported model carries along. Where a template is in tokenizer_config.json and in
/// a file of its own, the file counts, as in transformers. Throws Error naming the file and the key that is not as it
/// should be.
NamedFiles files_to_carry(const std::string& directory, int64_t vocab_size);

/// What an export says of conversations.
struct ChatPart {
  ExportedTemplates templates;
  std::vector<int32_t> eos_ids;      ///< each of them ends a text; the tokenizer's own EOS is among them
  int32_t tokenizer_eos = -1;        ///< -1 = none
  std::vector<std::string> remarks;  ///< for people
};
/// `choice` is a template to write in place of the carried one (TemplateSources).
ChatPart chat_part(const Checkpoint& checkpoint, const std::string& choice, int64_t vocab_size);

/// Files to write for templates: paths relative to the directory, tokenizer_config.json not among them.
NamedFiles template_files(const ExportedTemplates& templates);
/// tokenizer_config.json with the templates.
std::string with_templates(const std::string& tokenizer_config_json, const ExportedTemplates& templates);
/// generation_config.json with these ids as eos_token_id: a number when there is one, a list when there are several.
std::string with_eos_ids(const std::string& generation_config_json, const std::vector<int32_t>& ids);

}  // namespace strand::hf
