#pragma once
// `CHECKPOINT [--device D] [--precision P] [--threads N]`: a trained model, opened for inference.
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "model/session.h"

namespace strand::cli {

constexpr int64_t max_batch_size = 65536;

struct ModelArguments {
  std::string path;
  std::string device;     ///< "" = the checkpoint's own
  std::string precision;  ///< likewise
  int threads = 0;
};

/// Registers the arguments; they outlive the parse.
void add_model_arguments(CLI::App& command, ModelArguments& arguments);

/// A checkpoint's model on a backend, with the configuration and tokenizer that travel inside it.
class OpenModel {
 public:
  /// `sequences`: the largest batch; sequences are as long as those of training. Throws Error.
  OpenModel(const ModelArguments& arguments, int64_t sequences)
      : OpenModel(arguments, {Purpose::inference, sequences, 0}) {}
  /// For any purpose; `shape.tokens` 0 means as long as those of training.
  OpenModel(const ModelArguments& arguments, SessionShape shape);

  const Config& config() const { return config_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  Session& session() { return *session_; }
  /// Throws Error when the checkpoint has none.
  const Tokenizer& tokenizer() const;

 private:
  Checkpoint checkpoint_;
  Config config_;
  std::optional<Tokenizer> tokenizer_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Ops> ops_;
  ProcessGrid self_;
  std::unique_ptr<Session> session_;
};

}  // namespace strand::cli
