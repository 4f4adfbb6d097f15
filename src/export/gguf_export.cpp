#include "export/gguf_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "core/error.h"
#include "core/file_io.h"
#include "data/tokenizer.h"
#include "export/chat_files.h"
#include "export/gguf_architectures.h"
#include "export/gguf_file.h"
#include "export/gguf_vocabulary.h"
#include "export/tensor_map.h"

namespace strand::gguf {

namespace fs = std::filesystem;
using hf::ElementSource;
using hf::MappedTensor;

namespace {
/// llama_ftype: what most of the tensors are.
uint32_t file_type(Encoding encoding) {
  switch (encoding) {
    case Encoding::f32:
      return 0;
    case Encoding::f16:
      return 1;
    case Encoding::q8_0:
      return 7;
    case Encoding::bf16:
      return 32;
  }
  fail("no file is of type {}", to_string(encoding));
}

/// A tensor of the file, and the tensors of ours that it is made of, one after the other.
struct Stack {
  const hf::TensorRule* rule;
  std::string name;
  std::vector<int64_t> shape_of_part;
  std::vector<ElementSource> parts;  ///< empty for a constant
};

/// The tensors of the file in the order of layers.
std::vector<Stack> stacks_of(const Architecture& architecture, const Config& config, const TensorSource& source) {
  std::vector<Stack> stacks;
  std::map<std::string, size_t> place;
  std::set<std::string> used;
  for (const MappedTensor& t : hf::map_tensors(architecture.tensors, config)) {
    const auto [found, first] = place.emplace(t.theirs, stacks.size());
    if (first) stacks.push_back({t.rule, t.theirs, t.their_shape, {}});
    if (t.ours.empty()) continue;
    stacks[found->second].parts.push_back(hf::source_of(t, config, source));
    used.insert(t.ours);
  }
  require(used.size() == source.items().size(), "the checkpoint holds {} tensors, of which {} has a place for {}",
          source.items().size(), architecture.name, used.size());
  return stacks;
}

int64_t product(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  return elements;
}

/// Reads elements of parts of `size` elements each, which follow one another.
void read_parts(const std::vector<ElementSource>& parts, int64_t size, int64_t begin, int64_t count, float* out) {
  while (count > 0) {
    const int64_t within = begin % size, stretch = std::min(count, size - within);
    hf::read_elements(parts[static_cast<size_t>(begin / size)], within, stretch, DType::f32, out);
    begin += stretch;
    count -= stretch;
    out += stretch;
  }
}

StoredTensor stored(const Stack& stack, const Config& config, Encoding wanted) {
  StoredTensor out{stack.name, stack.shape_of_part, wanted, {}};
  const bool vector = out.shape.size() == 1;
  if (vector || stack.rule->storage == hf::Storage::always_f32) out.encoding = Encoding::f32;
  if (out.shape.back() % block_elements(out.encoding) != 0) out.encoding = Encoding::f16;
  if (stack.rule->scope == hf::Scope::expert) out.shape.insert(out.shape.begin(), config.moe.num_experts);
  if (stack.parts.empty()) {
    out.read = [value = stack.rule->constant](int64_t, int64_t count, float* values) {
      std::fill_n(values, count, value);
    };
  } else {
    out.read = [parts = stack.parts, size = product(stack.shape_of_part)](int64_t begin, int64_t count, float* values) {
      read_parts(parts, size, begin, count, values);
    };
  }
  return out;
}

/// A remark about the tensors that could not be stored as q8_0; "" when there are none.
std::string remark_about_rows(const std::vector<StoredTensor>& tensors, Encoding wanted) {
  std::vector<std::string> names;
  std::set<int64_t> rows;
  for (const StoredTensor& t : tensors) {
    if (t.encoding == wanted || t.encoding == Encoding::f32) continue;
    names.push_back(t.name);
    rows.insert(t.shape.back());
  }
  if (names.empty()) return "";
  return fmt::format(
      "{} of {} tensors are {} and not {}, because their rows have {} elements, which is no multiple of {} "
      "({}{})",
      names.size(), tensors.size(), to_string(Encoding::f16), to_string(wanted), fmt::join(rows, " or "),
      block_elements(wanted), names.front(), names.size() > 1 ? " and others" : "");
}

/// Adds the checkpoint's tokenizer. Returns remarks about texts for which llama.cpp gives other ids.
std::vector<std::string> add_vocabulary(const Checkpoint& checkpoint, const Config& config, Metadata& metadata) {
  if (checkpoint.tokenizer().empty()) {
    add_no_vocabulary(metadata);
    return {};
  }
  const std::string name = checkpoint.tokenizer_path();
  const auto tokenizer = Tokenizer::from_files(checkpoint.tokenizer(), name);
  const TokenizerDescription description = tokenizer->description();
  const std::string reason = std::visit([](const auto& d) { return reason_against_vocabulary(d); }, description);
  if (!reason.empty()) {
    add_no_vocabulary(metadata);
    return {fmt::format("{} {}, so the file has no vocabulary: programs can give it ids, and no text", name, reason)};
  }
  std::vector<std::string> remarks = std::visit(
      [&](const auto& d) { return add_vocabulary(d, tokenizer->special(), config.model.vocab_size, metadata); },
      description);
  for (std::string& remark : remarks)
    remark = fmt::format("llama.cpp gives other ids than {} for some texts: {}", name, remark);
  return remarks;
}

/// Adds the chat templates, and the id that ends a turn of a conversation where it is not EOS.
void add_chat(const hf::ChatPart& chat, Metadata& metadata) {
  const ExportedTemplates& templates = chat.templates;
  if (!templates.jinja.empty()) metadata.add_string("tokenizer.chat_template", templates.jinja);
  std::vector<std::string> names;
  for (const auto& [name, program] : templates.further) {
    names.push_back(name);
    metadata.add_string("tokenizer.chat_template." + name, program);
  }
  if (!names.empty()) metadata.add_strings("tokenizer.chat_templates", names);
  if (chat.tokenizer_eos < 0) return;
  const auto other =
      std::find_if(chat.eos_ids.begin(), chat.eos_ids.end(), [&](int32_t id) { return id != chat.tokenizer_eos; });
  if (other != chat.eos_ids.end()) metadata.add_u32("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(*other));
}

void require_free(const std::string& path) {
  const fs::path file(path);
  require(file.has_filename() && file.filename() != "." && file.filename() != "..", "{} is no name for a new file",
          path);
  require(!fs::exists(fs::symlink_status(file)), "{} is already there: remove it, or choose another place", path);
}
}  // namespace

ExportSummary export_model(const Checkpoint& checkpoint, const Config& config, const std::string& path,
                           const ExportOptions& options) {
  const Architecture& architecture = architecture_for(config);
  require_free(path);
  Metadata metadata;
  metadata.add_string("general.architecture", architecture.name);
  metadata.add_string("general.type", "model");
  metadata.add_string("general.name", config.run.name);
  metadata.add_u32("general.file_type", file_type(options.encoding));
  metadata.add_u32("general.quantization_version", 2);
  add_model_keys(architecture, config, metadata);

  ExportSummary summary{.architecture = architecture.name,
                        .parameters = hf::count_parameters(architecture.tensors, config),
                        .has_tokenizer = !checkpoint.tokenizer().empty()};
  summary.caveats = add_vocabulary(checkpoint, config, metadata);
  const hf::ChatPart chat = hf::chat_part(checkpoint, options.chat_template, config.model.vocab_size);
  add_chat(chat, metadata);
  summary.caveats.insert(summary.caveats.end(), chat.remarks.begin(), chat.remarks.end());
  std::vector<StoredTensor> tensors;
  for (const Stack& stack : stacks_of(architecture, config, checkpoint.model()))
    tensors.push_back(stored(stack, config, options.encoding));
  const std::string remark = remark_about_rows(tensors, options.encoding);
  if (!remark.empty()) summary.caveats.push_back(remark);

  make_directories(parent_directory(path));
  write_gguf(path, metadata, tensors);
  for (const StoredTensor& tensor : tensors) {
    ++summary.tensors;
    summary.bytes += tensor.bytes();
  }
  return summary;
}

}  // namespace strand::gguf
