#include "report/describe_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "chat/named_templates.h"
#include "checkpoint/tensor_source.h"
#include "config/model_size.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/number_text.h"
#include "core/strict_json.h"
#include "data/describe.h"
#include "export/chat_files.h"
#include "export/gguf_reader.h"
#include "export/model_directory.h"
#include "report/table.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
constexpr uint64_t max_config_bytes = 16'000'000;

// ---- Tensors --------------------------------------------------------------------------------------------------------

/// A name with its numbers replaced: "model.layers.3.mlp.experts.7.up_proj.weight" becomes
/// "model.layers.{}.mlp.experts.{}.up_proj.weight".
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    pattern += (begin > 0 ? "." : "") + (number ? std::string("{}") : part);
    begin = end + 1;
  }
  return one_line(pattern);
}

/// What a model's file holds: a line for tensors whose names differ in their numbers alone, and sums for each type.
class TensorList {
 public:
  void add(const std::string& name, const std::string& type, std::span<const int64_t> shape, int64_t elements,
           uint64_t bytes) {
    const std::string pattern = pattern_of(name), shape_words = shape_text(shape);
    const auto [place, fresh] = places_.emplace(std::tuple(pattern, type, shape_words), rows_.size());
    if (fresh) rows_.push_back({pattern, type, shape_words, 0});
    ++rows_[place->second].count;
    Sum& sum = sums_[type];
    ++sum.tensors;
    sum.elements += elements;
    elements_ += elements;
    bytes_ += bytes;
    ++tensors_;
  }

  int64_t elements() const { return elements_; }

  std::string text() const {
    TextTable table({"tensors", "type", "shape", "how many"});
    for (const Row& row : rows_) table.add({row.pattern, row.type, row.shape, grouped_digits(row.count)});
    return table.text();
  }

  /// "precision: bf16 1,234 elements in 40 tensors; f32 ..."
  std::string precision() const {
    std::string text;
    for (const auto& [type, sum] : sums_)
      text += fmt::format("{}{} ({} elements in {} tensors)", text.empty() ? "precision: " : ", ", type,
                          grouped_digits(sum.elements), grouped_digits(sum.tensors));
    return text + fmt::format("\nin all: {} tensors, {} elements, {}\n", grouped_digits(tensors_),
                              grouped_digits(elements_), bytes_text(static_cast<double>(bytes_)));
  }

 private:
  struct Row {
    std::string pattern, type, shape;
    int64_t count;
  };
  struct Sum {
    int64_t tensors = 0, elements = 0;
  };
  std::vector<Row> rows_;
  std::map<std::tuple<std::string, std::string, std::string>, size_t> places_;
  std::map<std::string, Sum> sums_;
  int64_t tensors_ = 0, elements_ = 0;
  uint64_t bytes_ = 0;
};

TensorList list_of(const TensorSource& source) {
  TensorList list;
  for (const auto& [name, item] : source.items())
    list.add(name, item.entry->dtype, item.entry->shape,
             static_cast<int64_t>(tensor_bytes(item.entry->shape, 8).value_or(0)), item.entry->bytes());
  return list;
}

// ---- Hugging Face ---------------------------------------------------------------------------------------------------

std::string sizes_of(const Config& c) {
  const ModelConfig& m = c.model;
  std::string text = fmt::format("{} layers of width {}, {} heads", m.num_layers, m.hidden_size, m.num_heads);
  text += m.latent() ? std::string(" of latent attention") : fmt::format(" ({} of keys and values)", m.num_kv_heads);
  if (m.dense_layers > 0) text += fmt::format(", {} of the layers dense", m.dense_layers);
  text +=
      fmt::format(", {} experts of width {}, of which {} are used", c.moe.num_experts, c.moe.expert_ffn, c.moe.top_k);
  if (c.moe.shared_experts > 0) text += fmt::format(", and {} shared", c.moe.shared_experts);
  return text + fmt::format("\nvocabulary of {}, head and embedding {}, sequences of up to {} as imported\n",
                            m.vocab_size, m.tied_embeddings ? "tied" : "separate", c.data.sequence_length);
}

int64_t elements_of(const std::vector<NamedTensor>& tensors) {
  int64_t elements = 0;
  for (const NamedTensor& tensor : tensors) elements += static_cast<int64_t>(tensor_bytes(tensor.shape, 8).value_or(0));
  return elements;
}

/// The parameters that a run of the model has, and what else the directory holds.
std::string parameters_of(const hf::ModelDirectory& model, int64_t stored) {
  const ModelSize size = model_size(model.config());
  const int64_t ours = elements_of(model.tensors()), bias = ours - size.parameters;
  std::string text = fmt::format("parameters: {} trained weights, of which {} are active for a token",
                                 grouped_digits(size.parameters), grouped_digits(size.active_parameters));
  if (bias > 0) text += fmt::format("; {} elements of the bias of expert selection", grouped_digits(bias));
  if (stored > ours) text += fmt::format("; {} elements that import leaves out", grouped_digits(stored - ours));
  return text + "\n";
}

std::string describe_tokenizer_of(const hf::FoundTokenizer& found) {
  if (found.tokenizer == nullptr) return fmt::format("tokenizer: none that can be used ({})\n", found.problem);
  return fmt::format("tokenizer: {}, {} pieces ({})\n", found.tokenizer->kind(), found.tokenizer->vocab_size(),
                     found.tokenizer->name());
}

std::string describe_importable(const std::string& directory, const hf::ModelDirectory& model) {
  const TensorList list = list_of(model.source());
  std::string text = fmt::format("class: {}\n", model.class_name()) + sizes_of(model.config()) +
                     parameters_of(model, list.elements()) + list.precision() +
                     describe_tokenizer_of(model.tokenizer());
  const std::string chat = hf::chat_template_of(model.tokenizer_files());
  text += fmt::format("chat template: {}\n", chat.empty() ? "none" : chat) + list.text();
  for (const std::string& note : model.notes()) text += fmt::format("note: {}\n", note);
  for (const std::string& warning : model.warnings()) text += fmt::format("warning: {}\n", warning);
  return text + fmt::format("can be imported: strand import {} --out runs/NAME\n", directory);
}

/// The keys of config.json that name a model's kind and sizes, whatever class it is of.
std::string describe_config_json(const fs::path& path) {
  constexpr const char* keys[] = {"architectures",
                                  "model_type",
                                  "hidden_size",
                                  "num_hidden_layers",
                                  "num_attention_heads",
                                  "num_key_value_heads",
                                  "num_experts",
                                  "num_local_experts",
                                  "n_routed_experts",
                                  "num_experts_per_tok",
                                  "vocab_size",
                                  "torch_dtype",
                                  "dtype"};
  const nlohmann::json file = parse_strict_json(read_file(path.string(), max_config_bytes), path.string());
  std::string text;
  for (const char* key : keys)
    if (file.contains(key)) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, file[key].dump());
  return fmt::format("config.json: {}\n", text.empty() ? "no key that is known here" : one_line(text));
}

/// Adds what `describe` says. What cannot be read has no line: the reason why import refuses the directory says it.
template <typename Describe>
void add_if_readable(std::string& text, const Describe& describe) {
  try {
    text += describe();
  } catch (const Error&) {
  } catch (const nlohmann::json::exception&) {
  }
}

std::string describe_refused(const std::string& directory, const std::string& reason) {
  std::string text;
  add_if_readable(text, [&] { return describe_config_json(fs::path(directory) / "config.json"); });
  add_if_readable(text, [&] {
    const TensorSource source(directory, "model");
    const TensorList list = list_of(source);
    return list.precision() + list.text();
  });
  text += describe_tokenizer_of(hf::find_tokenizer(directory));
  return text + fmt::format("cannot be imported: {}\n", reason);
}

// ---- GGUF -----------------------------------------------------------------------------------------------------------

/// Of the keys of a file: the value for people, or "" when there is none.
std::string value_of(const gguf::FileDescription& file, const std::string& key) {
  const gguf::Value* const value = file.find(key);
  return value == nullptr ? "" : one_line(value->for_people());
}

std::string sizes_of(const gguf::FileDescription& file, const std::string& architecture) {
  constexpr std::pair<const char*, const char*> keys[] = {{"block_count", "layers"},
                                                          {"embedding_length", "width"},
                                                          {"attention.head_count", "heads"},
                                                          {"attention.head_count_kv", "heads of keys and values"},
                                                          {"expert_count", "experts"},
                                                          {"expert_used_count", "experts used"},
                                                          {"expert_feed_forward_length", "width of an expert"},
                                                          {"context_length", "longest sequence"}};
  std::string text;
  for (const auto& [key, words] : keys)
    if (const std::string value = value_of(file, architecture + "." + key); !value.empty())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", words, value);
  return text.empty() ? "" : text + "\n";
}

std::string tokenizer_of(const gguf::FileDescription& file) {
  const std::string model = value_of(file, "tokenizer.ggml.model");
  const gguf::Value* const tokens = file.find("tokenizer.ggml.tokens");
  if (model.empty() || model == "none") return "tokenizer: none\n";
  std::string text = fmt::format("tokenizer: {}", model);
  if (const std::string pre = value_of(file, "tokenizer.ggml.pre"); !pre.empty()) text += fmt::format(" ({})", pre);
  if (tokens != nullptr && tokens->count) text += fmt::format(", {} pieces", *tokens->count);
  return text + "\n";
}

std::string chat_template_of(const gguf::FileDescription& file) {
  const gguf::Value* const program = file.find("tokenizer.chat_template");
  if (program == nullptr || !program->text) return "chat template: none\n";
  const ChatTemplate* const known = recognize_jinja(*program->text);
  return fmt::format("chat template: {}\n", known == nullptr ? "none of those that strand knows" : known->name);
}
}  // namespace

std::string describe_model_directory(const std::string& directory) {
  std::string text = fmt::format("{}: model directory of Hugging Face\n", directory);
  try {
    const hf::ModelDirectory model(directory, {});
    return text + describe_importable(directory, model);
  } catch (const Error& error) {
    return text + describe_refused(directory, error.what());
  }
}

std::string describe_gguf(const std::string& path) {
  const gguf::FileDescription file = gguf::read_gguf(path);
  const std::string architecture = value_of(file, "general.architecture");
  TensorList list;
  for (const gguf::TensorDescription& t : file.tensors)
    list.add(t.name, t.type, t.shape, t.elements, t.bytes.value_or(0));
  std::string text = fmt::format("{}: GGUF, version {}\narchitecture: {}\n", path, file.version,
                                 architecture.empty() ? "not said" : architecture);
  if (const std::string name = value_of(file, "general.name"); !name.empty()) text += fmt::format("name: {}\n", name);
  text += sizes_of(file, architecture);
  text += fmt::format(
      "parameters: {}, which are all elements of all tensors: constants and copies that the "
      "architecture needs are among them\n",
      grouped_digits(list.elements()));
  text += list.precision() + tokenizer_of(file) + chat_template_of(file) + list.text();
  return text +
         "cannot be imported: strand writes GGUF files and does not read their weights; import the Hugging Face "
         "directory that the file was made from (strand import DIR --out runs/NAME)\n";
}

}  // namespace strand
