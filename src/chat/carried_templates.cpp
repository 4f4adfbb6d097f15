#include "chat/carried_templates.h"

#include <fmt/format.h>

#include "chat/jinja.h"
#include "chat/named_templates.h"
#include "chat/template_yaml.h"
#include "core/error.h"
#include "core/file_io.h"

namespace strand {

namespace {
constexpr std::string_view jinja_begin = "chat_template.", jinja_end = ".jinja";

/// What is carried for the template that goes by no name.
struct Carried {
  std::string file;                   ///< "" = nothing
  std::string jinja;                  ///< the program
  std::optional<ChatTemplate> known;  ///< the same, where strand knows it
};

Carried carried_template(const NamedFiles& carried, const std::string& checkpoint) {
  if (const auto yaml = carried.find(template_yaml_file); yaml != carried.end()) {
    const ChatTemplate own = parse_template(yaml->second, fmt::format("{}/{}", checkpoint, template_yaml_file));
    return {template_yaml_file, to_jinja(own), own};
  }
  const auto program = carried.find(jinja_file);
  if (program == carried.end() || program->second.empty()) return {};
  Carried out{jinja_file, program->second, std::nullopt};
  if (const ChatTemplate* known = recognize_jinja(program->second)) out.known = *known;
  return out;
}

/// Whether two templates give the same text, whatever their names.
bool same(ChatTemplate a, const ChatTemplate& b) {
  a.name = b.name;
  return a == b;
}
}  // namespace

std::string further_jinja_file(const std::string& name) {
  return fmt::format("{}{}{}", jinja_begin, name, jinja_end);
}

ChatTemplate template_for_chat(const TemplateSources& s) {
  if (!s.choice.empty()) return load_template(s.choice);
  const Carried carried = carried_template(s.carried, s.checkpoint);
  require(!carried.file.empty(),
          "{} has no chat template; choose one with --template: {}, or a .yaml file of your own (docs/generation.md)",
          s.checkpoint, template_names());
  require(carried.known.has_value(),
          "{}/{} is a program in Jinja that is none of the templates which strand knows, and strand has no interpreter "
          "of Jinja. Choose a template with --template: {}, or a .yaml file of your own (docs/generation.md); or "
          "export the model, and use the template in transformers or llama.cpp",
          s.checkpoint, carried.file, template_names());
  return *carried.known;
}

ExportedTemplates templates_for_export(const TemplateSources& s) {
  ExportedTemplates out;
  for (const auto& [file, program] : s.carried) {
    if (!file.starts_with(jinja_begin) || !file.ends_with(jinja_end) || file == jinja_file) continue;
    out.further[file.substr(jinja_begin.size(), file.size() - jinja_begin.size() - jinja_end.size())] = program;
  }
  const Carried carried = carried_template(s.carried, s.checkpoint);
  out.jinja = carried.jinja;
  out.known = carried.known;
  if (s.choice.empty()) return out;
  out.known = load_template(s.choice);
  if (carried.known && same(*carried.known, *out.known)) return out;
  if (!out.jinja.empty())
    out.remark = fmt::format(
        "chat template {} is exported, and not {}/{}, which the model was imported or trained with and which is "
        "another one",
        out.known->name, s.checkpoint, carried.file);
  out.jinja = to_jinja(*out.known);
  return out;
}

ReplacedTemplate with_chosen_template(const TemplateSources& s) {
  const Carried before = carried_template(s.carried, s.checkpoint);
  const ChatTemplate chosen = load_template(s.choice);
  ReplacedTemplate out{s.carried, ""};
  if (before.known && same(*before.known, chosen)) return out;
  if (!before.file.empty())
    out.remark = fmt::format("chat template {} takes the place of {}/{}, which is another one", s.choice, s.checkpoint,
                             before.file);
  out.files.erase(jinja_file);
  out.files.erase(template_yaml_file);
  if (find_named_template(s.choice) != nullptr)
    out.files[jinja_file] = to_jinja(chosen);
  else
    out.files[template_yaml_file] = read_file(s.choice, max_template_bytes);
  return out;
}

}  // namespace strand
