#include "chat/carried_templates.h"

#include <fmt/format.h>

#include "chat/jinja.h"
#include "chat/named_templates.h"
#include "chat/template_yaml.h"
#include "core/error.h"

namespace strand {

namespace {
constexpr std::string_view jinja_begin = "chat_template.", jinja_end = ".jinja";

/// The carried program; "" = none.
std::string carried_program(const TemplateSources& s) {
  const auto program = s.carried.find(jinja_file);
  return program == s.carried.end() ? "" : program->second;
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
  const std::string program = carried_program(s);
  require(!program.empty(),
          "{} has no chat template; choose one with --template: {}, or a .yaml file of your own (docs/generation.md)",
          s.checkpoint, template_names());
  const ChatTemplate* known = recognize_jinja(program);
  require(known != nullptr,
          "{}/{} is a program in Jinja that is none of the templates which strand knows, and strand has no interpreter "
          "of Jinja. Choose a template with --template: {}, or a .yaml file of your own (docs/generation.md); or "
          "export the "
          "model, and use the template in transformers or llama.cpp",
          s.checkpoint, jinja_file, template_names());
  return *known;
}

ExportedTemplates templates_for_export(const TemplateSources& s) {
  ExportedTemplates out;
  for (const auto& [file, program] : s.carried) {
    if (!file.starts_with(jinja_begin) || !file.ends_with(jinja_end) || file == jinja_file) continue;
    out.further[file.substr(jinja_begin.size(), file.size() - jinja_begin.size() - jinja_end.size())] = program;
  }
  out.jinja = carried_program(s);
  const ChatTemplate* imported = out.jinja.empty() ? nullptr : recognize_jinja(out.jinja);
  if (s.choice.empty()) {
    if (imported) out.known = *imported;
    return out;
  }
  out.known = load_template(s.choice);
  if (imported && same(*imported, *out.known)) return out;
  if (!out.jinja.empty())
    out.remark = fmt::format(
        "chat template {} is exported, and not {}/{}, which the model was imported with and which is another one",
        out.known->name, s.checkpoint, jinja_file);
  out.jinja = to_jinja(*out.known);
  return out;
}

}  // namespace strand
