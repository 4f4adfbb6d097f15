#pragma once
// A Hugging Face model directory as an import sees it: everything is read and checked, and nothing is written. `strand
// import` makes a checkpoint of it, and `strand inspect` describes it.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "data/tokenizer.h"
#include "export/tensor_import.h"

namespace strand::hf {

struct ImportOptions {
  int64_t longest_sequence = 4096;  ///< data.sequence_length is the model's own limit, and at most this
};

/// Throws Error that says what an import reads unless the directory holds a configuration and weights.
void require_model_directory(const std::string& directory);

/// The tokenizer of a directory: a tokenizer.model that is of SentencePiece, or else a tokenizer.json with its
/// tokenizer_config.json.
struct FoundTokenizer {
  std::unique_ptr<const Tokenizer> tokenizer;  ///< null = there is none that strand understands
  std::string problem;                         ///< why it is null
};
FoundTokenizer find_tokenizer(const std::string& directory);

/// What the chat template among the files that a model carries along is, for people: "chatml", or that strand does not
/// know it; "" when there is none.
std::string chat_template_of(const NamedFiles& carried);

class ModelDirectory {
 public:
  /// The directory holds config.json, model.safetensors (or shards) in F32, BF16, F16 or F64, and perhaps a tokenizer.
  /// Throws Error naming the file and the key or tensor for which our models have no place.
  ModelDirectory(const std::string& directory, const ImportOptions& options);
  ModelDirectory(const ModelDirectory&) = delete;  // the tensors read from the source
  ModelDirectory& operator=(const ModelDirectory&) = delete;

  const std::string& class_name() const { return foreign_.family->class_name; }
  const Config& config() const { return foreign_.config; }
  const TensorSource& source() const { return source_; }
  const std::vector<NamedTensor>& tensors() const { return imported_.tensors; }  ///< ours, in f32
  const FoundTokenizer& tokenizer() const { return tokenizer_; }
  /// The tokenizer, chat templates, and ids that end a text (chat_files.h). Empty when there is no tokenizer.
  const NamedFiles& tokenizer_files() const { return files_; }
  // Texts for people:
  const std::vector<std::string>& notes() const { return notes_; }        ///< what is left out and why, ids of padding
  const std::vector<std::string>& warnings() const { return warnings_; }  ///< what people may not expect

 private:
  void settle();
  void read_tokenizer();

  std::string directory_;
  ForeignConfig foreign_;
  TensorSource source_;
  ImportedTensors imported_;
  FoundTokenizer tokenizer_;
  NamedFiles files_;
  std::vector<std::string> notes_, warnings_;
};

}  // namespace strand::hf
