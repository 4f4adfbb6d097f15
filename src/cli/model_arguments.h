#pragma once
// `CHECKPOINT [--device D] [--precision P] [--threads N]`, and the model that they name, opened for inference.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "model/session.h"
#include "parallel/launch.h"

namespace strand::cli {

constexpr int64_t max_batch_size = 65536;

struct ModelArguments {
  std::string path;
  std::string device;     ///< "" = that of the checkpoint
  std::string precision;  ///< "" = that of the checkpoint
  int threads = 0;
};

/// Registers the arguments. `arguments` outlives the parse.
void add_model_arguments(CLI::App& command, ModelArguments& arguments);
/// --device, --precision and --threads alone, for commands that take several models.
void add_backend_arguments(CLI::App& command, ModelArguments& arguments);

/// The model of a checkpoint on a backend, with the configuration and the tokenizer that are in the checkpoint.
class OpenModel {
 public:
  /// `sequences` is the largest batch. Sequences are as long as in training. Throws Error.
  OpenModel(const ModelArguments& arguments, int64_t sequences)
      : OpenModel(arguments, {Purpose::inference, sequences, 0}) {}
  /// For any purpose. With `shape.tokens` 0, sequences are as long as in training.
  OpenModel(const ModelArguments& arguments, SessionShape shape);
  /// In one of several processes, each of which has the whole model, and without a session: open() makes it.
  OpenModel(const ModelArguments& arguments, const Processes& processes);
  /// Makes a session of this shape in place of the one there is, and loads the weights. Throws Error.
  Session& open(SessionShape shape);

  const Config& config() const { return config_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  Session& session() { return *session_; }
  /// Throws Error when the checkpoint has no tokenizer.
  const Tokenizer& tokenizer() const;
  const Tokenizer* tokenizer_if_any() const { return tokenizer_.get(); }

 private:
  OpenModel(const ModelArguments& arguments, int threads, int device);

  Checkpoint checkpoint_;
  Config config_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Ops> ops_;
  int sharing_memory_ = 1;  ///< processes of this run on the memory of the device
  ProcessGrid self_;
  std::unique_ptr<Session> session_;
};

}  // namespace strand::cli
