#include "export/chat_files.h"

#include <algorithm>
#include <filesystem>

#include "chat/encoder.h"
#include "checkpoint/generation_config.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/strict_json.h"
#include "data/utf8.h"

namespace strand::hf {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

namespace {
constexpr uint64_t max_file_bytes = 16'000'000;
constexpr const char* default_name = "default";
constexpr const char* further_directory = "additional_chat_templates";
constexpr const char* jinja_suffix = ".jinja";

std::string read_text(const std::string& path) {
  std::string text = read_file(path, max_file_bytes);
  const size_t bad = first_invalid_utf8(text);
  require(bad == text.size(), "{}: not UTF-8 at byte {}", path, bad);
  return text;
}

/// The name becomes part of the name of a file.
void check_name(const std::string& name, const std::string& where) {
  const bool plain = !name.empty() && name.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-") == name.npos;
  require(plain, "{}: \"{}\" is no name of a chat template (letters, digits, _ and -)", where, name);
}

void carry(NamedFiles& files, const std::string& name, const std::string& program) {
  files[name == default_name ? jinja_file : further_jinja_file(name)] = program;
}

std::string member(const json& object, const char* key, const std::string& where) {
  require(object.is_object() && object.contains(key) && object[key].is_string(), "{}: an entry without a string \"{}\"",
          where, key);
  return object[key].get<std::string>();
}

void read_tokenizer_config(const std::string& path, NamedFiles& files) {
  const json config = parse_strict_json(read_text(path), path);
  const std::string where = path + ": chat_template";
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return;
  if (found->is_string()) return carry(files, default_name, found->get<std::string>());
  require(found->is_array(), "{} is neither a string nor a list", where);
  for (const json& entry : *found) {
    const std::string name = member(entry, "name", where);
    check_name(name, where);
    carry(files, name, member(entry, "template", where));
  }
}

void read_template_files(const fs::path& directory, NamedFiles& files) {
  if (const fs::path program = directory / jinja_file; fs::exists(program))
    carry(files, default_name, read_text(program.string()));
  if (!fs::is_directory(directory / further_directory)) return;
  for (const auto& entry : fs::directory_iterator(directory / further_directory)) {
    if (entry.path().extension() != jinja_suffix) continue;
    check_name(entry.path().stem().string(), entry.path().string());
    carry(files, entry.path().stem().string(), read_text(entry.path().string()));
  }
}

/// The ids of config.json count where there is no generation_config.json, as in transformers.
void read_eos_ids(const fs::path& directory, int64_t vocab_size, NamedFiles& files) {
  if (const fs::path generation = directory / generation_config_file; fs::exists(generation)) {
    files[generation_config_file] = read_text(generation.string());
    eos_ids_in(files[generation_config_file], generation.string(), vocab_size);
    return;
  }
  const std::string config = (directory / "config.json").string();
  const std::vector<int32_t> ids = eos_ids_in(read_text(config), config, vocab_size);
  if (!ids.empty()) files[generation_config_file] = with_eos_ids("{}", ids);
}
}  // namespace

NamedFiles files_to_carry(const std::string& directory, int64_t vocab_size) {
  NamedFiles files;
  const fs::path place(directory);
  if (const fs::path config = place / "tokenizer_config.json"; fs::exists(config))
    read_tokenizer_config(config.string(), files);
  read_template_files(place, files);
  read_eos_ids(place, vocab_size, files);
  return files;
}

ChatPart chat_part(const Checkpoint& checkpoint, const std::string& choice, int64_t vocab_size) {
  ChatPart out;
  out.templates = templates_for_export({choice, checkpoint.tokenizer(), checkpoint.path()});
  if (!out.templates.remark.empty()) out.remarks.push_back(out.templates.remark);
  out.eos_ids = carried_eos_ids(checkpoint.tokenizer(), checkpoint.path(), vocab_size);
  const auto add = [&](int32_t id) {
    if (id >= 0 && std::find(out.eos_ids.begin(), out.eos_ids.end(), id) == out.eos_ids.end())
      out.eos_ids.push_back(id);
  };
  if (checkpoint.tokenizer().empty()) return out;
  const auto tokenizer = Tokenizer::from_files(checkpoint.tokenizer(), checkpoint.tokenizer_path());
  add(out.tokenizer_eos = tokenizer->eos_id());
  if (!out.templates.known) return out;
  try {
    const ChatEncoder encoder(*out.templates.known, *tokenizer);
    add(encoder.turn_end().id.value_or(-1));
    if (const std::string remark = encoder.remark(); !remark.empty()) out.remarks.push_back(remark);
  } catch (const Error& e) {
    out.remarks.push_back(e.what());  // the template is of use to those who have another tokenizer
  }
  return out;
}

NamedFiles template_files(const ExportedTemplates& templates) {
  NamedFiles files;
  if (!templates.jinja.empty()) files[jinja_file] = templates.jinja;
  for (const auto& [name, program] : templates.further)
    files[std::string(further_directory) + "/" + name + jinja_suffix] = program;
  return files;
}

std::string with_templates(const std::string& tokenizer_config_json, const ExportedTemplates& templates) {
  if (templates.jinja.empty() && templates.further.empty()) return tokenizer_config_json;
  ordered_json value = templates.jinja;
  if (!templates.further.empty()) {
    value = ordered_json::array();
    if (!templates.jinja.empty()) value.push_back({{"name", default_name}, {"template", templates.jinja}});
    for (const auto& [name, program] : templates.further) value.push_back({{"name", name}, {"template", program}});
  }
  ordered_json config = ordered_json::parse(tokenizer_config_json);
  if (config.contains("chat_template") && config["chat_template"] == value) return tokenizer_config_json;
  config["chat_template"] = std::move(value);
  return config.dump(2) + "\n";
}

std::string with_eos_ids(const std::string& generation_config_json, const std::vector<int32_t>& ids) {
  ordered_json config = ordered_json::parse(generation_config_json);
  if (ids.size() == 1)
    config["eos_token_id"] = ids[0];
  else if (!ids.empty())
    config["eos_token_id"] = ids;
  return config.dump(2) + "\n";
}

}  // namespace strand::hf
