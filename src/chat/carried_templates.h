#pragma once
// The chat template of a checkpoint. A checkpoint carries along, verbatim, what it was imported with: programs in Jinja
// that transformers and llama.cpp run. strand has no interpreter of Jinja; it renders templates that it knows. A run
// whose configuration names a template (data.chat_template) puts that one in the place of the imported one.
//   chat_template.yaml        people's own template (template_yaml.h), which counts before the next one
//   chat_template.jinja       the template of the imported model, or a named one as a program
//   chat_template.NAME.jinja  a further one that goes by a name ("tool_use")
#include <map>
#include <optional>
#include <string>

#include "chat/chat_template.h"
#include "core/named_files.h"

namespace strand {

inline constexpr const char* jinja_file = "chat_template.jinja";

inline constexpr const char* template_yaml_file = "chat_template.yaml";

/// The name of the file of a further template.
std::string further_jinja_file(const std::string& name);

/// Where templates come from, the first one that is there.
struct TemplateSources {
  std::string choice;         ///< a name or a file (load_template); "" = none
  const NamedFiles& carried;  ///< by the checkpoint, among other files
  std::string checkpoint;     ///< in messages
};

/// The template with which strand makes text of conversations. Throws Error that says what to do when there is none, or
/// only a program that strand does not know.
ChatTemplate template_for_chat(const TemplateSources& sources);

struct ExportedTemplates {
  std::string jinja;                           ///< "" = none
  std::map<std::string, std::string> further;  ///< programs by name
  std::optional<ChatTemplate> known;           ///< the first of these, where strand knows it
  std::string remark;                          ///< for people; "" = none
};
/// What exports write: carried programs as they are, or the template chosen as a program.
ExportedTemplates templates_for_export(const TemplateSources& sources);

struct ReplacedTemplate {
  NamedFiles files;
  std::string remark;  ///< for people: the template that was there is another one; "" = none, or the same
};
/// What a checkpoint carries when its run has chosen a template: the choice in the place of the one that `sources` has,
/// whose further ones stay. Throws Error as load_template does.
ReplacedTemplate with_chosen_template(const TemplateSources& sources);

}  // namespace strand
