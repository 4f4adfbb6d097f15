// strand export CHECKPOINT --out PATH: writes the weights in a format that other programs load.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/choice_option.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/template_option.h"
#include "core/error.h"
#include "core/log.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "export/gguf_export.h"
#include "export/hf_export.h"
#include "export/parameter_counts.h"
#include "train/model_state.h"

namespace strand::cli {

namespace {
enum class Format { hf, gguf };

struct Arguments {
  std::string checkpoint;
  Format format = Format::hf;
  std::string out;
  std::string class_name;
  std::string chat_template;
  gguf::Encoding type = gguf::Encoding::f32;
  uint64_t shard_megabytes = default_shard_bytes >> 20;
  bool shard_size_given = false;
};

/// What both formats say about an export.
struct Summary {
  std::string class_name;   ///< or the architecture
  std::string model_class;  ///< for people
  int64_t tensors;
  hf::ParameterCounts parameters;
  uint64_t bytes;
  bool has_tokenizer;
  std::vector<std::string> caveats;
};

DType hf_type(gguf::Encoding type) {
  if (type == gguf::Encoding::f32) return DType::f32;
  if (type == gguf::Encoding::bf16) return DType::bf16;
  throw UsageError(fmt::format("--type {} belongs to --format gguf; Hugging Face directories are f32 or bf16",
                               gguf::to_string(type)));
}

Summary export_hf(const Arguments& a, const Checkpoint& checkpoint, const Config& config) {
  const hf::ExportSummary s = hf::export_model(
      checkpoint, config, a.out, {hf_type(a.type), a.shard_megabytes << 20, a.class_name, a.chat_template});
  return {s.class_name, s.class_name, s.tensors, s.parameters, s.bytes, s.has_tokenizer, s.caveats};
}

Summary export_gguf(const Arguments& a, const Checkpoint& checkpoint, const Config& config) {
  const gguf::ExportSummary s = gguf::export_model(checkpoint, config, a.out, {a.type, a.chat_template});
  return {s.architecture, "GGUF of architecture " + s.architecture, s.tensors, s.parameters, s.bytes, s.has_tokenizer,
          s.caveats};
}

/// What the file holds besides the trained weights; "" = nothing.
std::string beside_trained(const hf::ParameterCounts& counts, const std::string& class_name) {
  std::vector<std::string> parts;
  if (counts.bias > 0) parts.push_back(fmt::format("{} of the bias of expert selection", grouped_digits(counts.bias)));
  if (counts.constants > 0)
    parts.push_back(fmt::format("{} constants that {} needs", grouped_digits(counts.constants), class_name));
  if (counts.copies > 0)
    parts.push_back(fmt::format("{} of the embedding, written once more as the head", grouped_digits(counts.copies)));
  return fmt::format("{}", fmt::join(parts, ", "));
}

void check(const Arguments& a) {
  if (a.format == Format::hf) hf_type(a.type);
  if (a.format == Format::gguf && a.shard_size_given)
    throw UsageError("--shard-size belongs to --format hf; a GGUF model is one file");
  if (a.format == Format::gguf && !a.class_name.empty())
    throw UsageError("--class belongs to --format hf; the architecture of a GGUF file follows from the model");
}

void run(const Arguments& a) {
  check(a);
  const Checkpoint checkpoint = open_checkpoint(a.checkpoint);
  Config config = checkpoint_config(checkpoint);
  resolve_vocabulary(config);
  const PlaceLock lock = lock_output(a.out, "export");
  const Summary summary =
      a.format == Format::hf ? export_hf(a, checkpoint, config) : export_gguf(a, checkpoint, config);
  for (const std::string& caveat : summary.caveats) log_warning(caveat);
  if (!summary.has_tokenizer)
    log_warning(fmt::format("{} holds no tokenizer, so none was exported", checkpoint.path()));
  print_out("{}: {}, {} tensors, {} parameters, {}, {}\n", a.out, summary.model_class, summary.tensors,
            grouped_digits(summary.parameters.written), bytes_text(static_cast<double>(summary.bytes)),
            gguf::to_string(a.type));
  if (const std::string others = beside_trained(summary.parameters, summary.class_name); !others.empty())
    print_out("the model has {} parameters (trained weights, each counted once); the others are {}\n",
              grouped_digits(summary.parameters.trained), others);
}
}  // namespace

void add_export_command(CLI::App& app) {
  using gguf::Encoding;
  CLI::App* command = app.add_subcommand("export", "Write a checkpoint for Hugging Face transformers or llama.cpp");
  command->footer("Example: strand export runs/quickstart --out runs/quickstart-hf");
  const auto a = std::make_shared<Arguments>();
  command->add_option("CHECKPOINT", a->checkpoint, "A checkpoint, a run directory (its newest checkpoint), or RUN@STEP")
      ->type_name("")
      ->required();
  add_choice<Format>(*command, "--format", a->format, {{"hf", Format::hf}, {"gguf", Format::gguf}},
                     "hf: a directory for transformers, no code of its own (default); gguf: a file for llama.cpp");
  command->add_option("--out", a->out, "Directory (hf) or file (gguf) to write; must not be there yet")
      ->type_name("PATH")
      ->required();
  command
      ->add_option("--class", a->class_name,
                   "Class of transformers to write, with hf (default: the one that the weights were imported from, or "
                   "the first that can express the model)")
      ->type_name("NAME");
  add_choice<Encoding>(
      *command, "--type,--dtype", a->type,
      {{"f32", Encoding::f32}, {"bf16", Encoding::bf16}, {"f16", Encoding::f16}, {"q8_0", Encoding::q8_0}},
      "Type of the weights; router weights stay f32; f16 and q8_0 with gguf (default f32)");
  add_template_option(*command, a->chat_template,
                      "Chat template to write, by name or a .yaml file (default: that of the model)");
  CLI::Option* shard_size = add_number(*command, "--shard-size", a->shard_megabytes, uint64_t{1}, uint64_t{1} << 40,
                                       "MiB in a file of weights at most, with hf (default 5120)");
  command->callback([a, shard_size] {
    a->shard_size_given = shard_size->count() > 0;
    run(*a);
  });
}

}  // namespace strand::cli
