#pragma once
// What a checkpoint carries along beside its tokenizer, verbatim, from an imported model to every checkpoint that comes
// of it and into exports: generation_config.json (generation_config.h) and chat templates (chat/carried_templates.h),
// also one that a run has chosen.
// They are among the files that CheckpointContents::tokenizer and Checkpoint::tokenizer() hold.
#include <string>

#include "core/named_files.h"

namespace strand {

/// Whether a file of this name is carried along, and no file of the tokenizer itself.
bool is_carried(const std::string& name);

/// Those of the files that are carried along.
NamedFiles carried_files(const NamedFiles& files);
/// Those that are the tokenizer.
NamedFiles without_carried_files(const NamedFiles& files);

}  // namespace strand
