#pragma once
// Writes the logical tensors of a model on a device into checkpoints, reads them back, and settles the vocabulary that
// a configuration takes from its tokenizer.
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "model/session.h"

namespace strand {

// What the session of a run with one rank holds. Where there are several, snapshot.h says who writes what.
/// Master weights and router biases by logical name.
std::vector<NamedTensor> model_tensors(Session& session);
/// Moments as "m.<weight>" and "v.<weight>".
std::vector<NamedTensor> optimizer_tensors(Session& session);

/// Reads what this rank holds of weights and biases, or owns of the moments, in any layout; every tensor must be there
/// with its shape, and nothing that the whole model does not have. Other floating-point types are converted.
void load_model(Session& session, const TensorSource& source);
void load_optimizer(Session& session, const TensorSource& source);

/// Opens data.tokenizer (if any) and settles model.vocab_size: taken from the tokenizer when 0, at least its size
/// otherwise (a padded vocabulary: the tokenizer gives no id of the last rows). Throws Error naming both numbers, or
/// saying that there is neither.
std::unique_ptr<const Tokenizer> resolve_vocabulary(Config& config);

/// Opens the newest undamaged checkpoint in `parent`, if there is one. Logs the ones that it passes over, with the
/// reason.
std::optional<Checkpoint> open_latest(const std::string& parent);
/// `RUN@STEP`, where no file has this name, is the directory of that step in RUN or its `checkpoints` folder; any other
/// path is itself. Throws Error when RUN has no such step.
std::string checkpoint_of_step(const std::string& path);
/// Opens the checkpoint that `named` means: that of checkpoint_of_step(), this directory itself, or the newest
/// undamaged one in it or in its `checkpoints` folder. Throws Error when there is none, or when `named` itself is a
/// damaged checkpoint.
Checkpoint open_checkpoint(const std::string& named);

/// The configuration inside a checkpoint. Its vocabulary is settled from the tokenizer inside.
Config checkpoint_config(const Checkpoint& checkpoint);

}  // namespace strand
