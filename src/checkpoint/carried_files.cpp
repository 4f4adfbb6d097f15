#include "checkpoint/carried_files.h"

#include "checkpoint/generation_config.h"

namespace strand {

bool is_carried(const std::string& name) {
  return name == generation_config_file || name == "chat_template.yaml" ||
         (name.starts_with("chat_template.") && name.ends_with("jinja"));
}

NamedFiles carried_files(const NamedFiles& files) {
  NamedFiles carried;
  for (const auto& [name, bytes] : files)
    if (is_carried(name)) carried[name] = bytes;
  return carried;
}

NamedFiles without_carried_files(const NamedFiles& files) {
  NamedFiles others;
  for (const auto& [name, bytes] : files)
    if (!is_carried(name)) others[name] = bytes;
  return others;
}

}  // namespace strand
