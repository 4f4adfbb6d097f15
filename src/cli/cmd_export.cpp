// strand export CHECKPOINT --format hf --out DIR: writes the weights in a format that other programs load.
#include <fmt/core.h>

#include <memory>

#include "cli/choice_option.h"
#include "cli/commands.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "export/hf_export.h"
#include "train/model_state.h"

namespace strand::cli {

namespace {
struct Arguments {
  std::string checkpoint;
  std::string format = "hf";
  std::string out;
  std::string dtype = "f32";
  uint64_t shard_megabytes = default_shard_bytes >> 20;
};

void run(const Arguments& a) {
  const Checkpoint checkpoint = open_checkpoint(a.checkpoint);
  Config config = checkpoint_config(checkpoint);
  resolve_vocabulary(config);
  const hf::ExportOptions options{a.dtype == "bf16" ? DType::bf16 : DType::f32, a.shard_megabytes << 20};
  const PlaceLock lock = lock_output(a.out, "export");
  const hf::ExportSummary summary = hf::export_model(checkpoint, config, a.out, options);
  for (const std::string& caveat : summary.caveats) log_warning(caveat);
  if (!summary.has_tokenizer)
    log_warning(fmt::format("{} holds no tokenizer, so none was exported", checkpoint.path()));
  print_out("{}: {}, {} tensors, {} parameters, {:.1f} MB, {}\n", a.out, summary.class_name, summary.tensors,
            summary.parameters, static_cast<double>(summary.bytes) / 1e6, a.dtype);
}
}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "Write a checkpoint as a Hugging Face model directory");
  command->footer("Example: strand export runs/quickstart --out runs/quickstart-hf");
  const auto a = std::make_shared<Arguments>();
  command->add_option("CHECKPOINT", a->checkpoint, "A checkpoint, or a run directory (its newest checkpoint)")
      ->type_name("")
      ->required();
  add_choice(*command, "--format", a->format, {"hf"}, "hf: loads with transformers, no code of its own (default)");
  command->add_option("--out", a->out, "Directory to write; must not be there yet")->type_name("DIR")->required();
  add_choice(*command, "--dtype", a->dtype, {"f32", "bf16"},
             "Type of the weights; router weights stay f32 (default f32)");
  add_number(*command, "--shard-size", a->shard_megabytes, uint64_t{1}, uint64_t{1} << 40,
             "MiB in a file of weights at most (default 5120)");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
