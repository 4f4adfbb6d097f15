// strand verify FILE...: replays reference files on a backend.
#include <fmt/core.h>

#include "cli/choice_option.h"
#include "cli/commands.h"
#include "cli/grid_on_device.h"
#include "cli/number_option.h"
#include "core/error.h"
#include "core/standard_streams.h"
#include "model/backend.h"
#include "parallel/agreement.h"
#include "train/verify.h"

namespace strand::cli {

namespace {
constexpr int64_t watchdog_seconds = 600;

struct Arguments {
  std::vector<std::string> files;
  DeviceKind device = DeviceKind::cpu;
  std::string precision;
  int64_t expert_parallel = 1;
  int threads = 0;
};

Precision chosen_precision(const Arguments& a) {
  const bool reference = a.device == DeviceKind::reference;
  if (a.precision.empty()) return reference ? Precision::fp64 : Precision::fp32;
  const Precision precision = a.precision == "fp64"   ? Precision::fp64
                              : a.precision == "fp32" ? Precision::fp32
                                                      : Precision::bf16;
  if (reference != (precision == Precision::fp64))
    throw UsageError("--precision fp64 belongs to --device reference, which computes in nothing else");
  return precision;
}

void run(const Arguments& a, Processes& processes) {
  RunConfig run;
  run.device = a.device;
  run.precision = chosen_precision(a);
  run.threads = processes.threads_for(a.threads);
  const std::unique_ptr<Device> device = make_device(run, {}, processes.local_rank());
  const std::unique_ptr<ProcessGrid> grid =
      grid_on_device(processes, {.expert_parallel = a.expert_parallel, .watchdog_seconds = watchdog_seconds}, *device);
  const std::unique_ptr<Ops> ops = device->make_ops();
  const bool speaks = processes.rank() == 0;
  require_agreement(grid->control(), "arithmetic of the device (on a CPU, see STRAND_ISA)", device->arithmetic());
  int failed = 0;
  if (speaks) {
    print_out("{}\n", device->description());
    if (const std::string remark = device->bf16_remark(); run.precision == Precision::bf16 && !remark.empty())
      print_out("{}\n", remark);
  }
  for (const std::string& file : a.files) {
    const VerifyReport report = verify_case(ReferenceCase(file), *ops, *grid, run.precision);
    if (speaks) print_out("{}", format_report(report));
    failed += !report.pass();
  }
  if (speaks)
    print_out("{} of {} files pass on {} in {}\n", a.files.size() - static_cast<size_t>(failed), a.files.size(),
              ops->name(),
              run.precision == Precision::fp64   ? "fp64"
              : run.precision == Precision::fp32 ? "fp32"
                                                 : "bf16");
  if (failed) throw CLI::RuntimeError(1);
}
}  // namespace

void add_verify_command(CLI::App& app, Processes& processes) {
  CLI::App* command = app.add_subcommand(
      "verify",
      "Replay reference files and compare every loss term, gradient and training step; exit 1 on any failure");
  command->footer("Example: strand verify tests/data/*.safetensors");
  const auto a = std::make_shared<Arguments>();
  CLI::Validator existing = CLI::ExistingFile;
  existing.description("");  // help says it already
  command->add_option("FILE", a->files, "Reference files (.safetensors)")->type_name("")->required()->check(existing);
  add_choice<DeviceKind>(*command, "--device", a->device,
                         {{"cpu", DeviceKind::cpu}, {"reference", DeviceKind::reference}, {"cuda", DeviceKind::cuda}},
                         "Where to compute (default cpu)");
  add_choice(*command, "--precision", a->precision, {"fp64", "fp32", "bf16"},
             "Of weights and activations (default fp32; on the reference device fp64, which it alone has)");
  add_number(*command, "--expert-parallel", a->expert_parallel, int64_t{1}, int64_t{65536},
             "Processes that share a layer's experts (default 1)");
  add_threads(*command, a->threads);
  command->callback([a, &processes] { run(*a, processes); });
}

}  // namespace strand::cli
