// strand import DIR --out CHECKPOINT: makes a checkpoint of a Hugging Face model directory.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "cli/number_option.h"
#include "core/log.h"
#include "core/standard_streams.h"
#include "export/hf_import.h"

namespace strand::cli {

namespace {
struct Arguments {
  std::string directory;
  std::string out;
  hf::ImportOptions options;
};

void run(const Arguments& a) {
  const hf::ImportSummary summary = hf::import_model(a.directory, a.out, a.options);
  for (const std::string& note : summary.notes) log_info(note);
  for (const std::string& warning : summary.warnings) log_warning(warning);
  const ModelConfig& m = summary.config.model;
  print_out("{}: {}, {} layers of width {}, {} experts of which {} are used, {} tensors, {}, sequences of {}\n",
            summary.checkpoint, summary.class_name, m.num_layers, m.hidden_size, summary.config.moe.num_experts,
            summary.config.moe.top_k, summary.tensors, summary.has_tokenizer ? "with tokenizer" : "no tokenizer",
            summary.config.data.sequence_length);
}
}  // namespace

void add_import_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("import", "Make a checkpoint of a Hugging Face model directory");
  command->footer("Example: strand import runs/quickstart-hf --out runs/imported");
  const auto a = std::make_shared<Arguments>();
  command->add_option("DIR", a->directory, "Directory with config.json and model.safetensors (or shards)")
      ->type_name("")
      ->required();
  command->add_option("--out", a->out, "The checkpoint (…/step_00000000), or a run directory to put it in")
      ->type_name("DIR")
      ->required();
  add_number(*command, "--sequence-length", a->options.longest_sequence, int64_t{1}, int64_t{1} << 24,
             "Longest sequence to prepare for, if the model allows it (default 4096)");
  command->callback([a] { run(*a); });
}

}  // namespace strand::cli
