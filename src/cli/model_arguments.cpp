#include "cli/model_arguments.h"

#include "cli/choice_option.h"
#include "cli/number_option.h"
#include "core/error.h"
#include "model/backend.h"
#include "model/memory_check.h"
#include "train/model_state.h"

namespace strand::cli {

void add_model_arguments(CLI::App& command, ModelArguments& a) {
  command.add_option("CHECKPOINT", a.path, "A checkpoint, a run directory (its newest checkpoint), or RUN@STEP")
      ->type_name("")
      ->required();
  add_backend_arguments(command, a);
}

void add_backend_arguments(CLI::App& command, ModelArguments& a) {
  add_choice(command, "--device", a.device, {"cpu", "reference", "cuda"}, "Where to compute (default: as trained)");
  add_choice(command, "--precision", a.precision, {"fp64", "fp32", "bf16"},
             "Of weights and activations (default: as trained); fp64 belongs to the reference device");
  add_threads(command, a.threads);
}

namespace {
RunConfig run_config(const ModelArguments& a, RunConfig run) {
  if (a.device == "cpu") run.device = DeviceKind::cpu;
  if (a.device == "reference") run.device = DeviceKind::reference;
  if (a.device == "cuda") run.device = DeviceKind::cuda;
  if (run.device == DeviceKind::reference) run.precision = Precision::fp64;
  if (run.device != DeviceKind::reference && run.precision == Precision::fp64) run.precision = Precision::fp32;
  if (a.precision == "fp64") run.precision = Precision::fp64;
  if (a.precision == "fp32") run.precision = Precision::fp32;
  if (a.precision == "bf16") run.precision = Precision::bf16;
  if ((run.device == DeviceKind::reference) != (run.precision == Precision::fp64))
    throw UsageError("--precision fp64 belongs to --device reference, which computes in nothing else");
  run.threads = a.threads;
  return run;
}
}  // namespace

namespace {
const char* options_to_lower(Purpose purpose) {
  if (purpose == Purpose::scoring) return "--batch-tokens or --context";
  return purpose == Purpose::generation ? "--batch-size or --context" : "--batch-size";
}

MemoryRemedy remedy_for(const SessionShape& shape) {
  const std::string lower = fmt::format("lower {} (here {} sequences of {} tokens)", options_to_lower(shape.purpose),
                                        shape.sequences, shape.tokens);
  // A cache lies beside the weights.
  return {.model = shape.cached() ? lower + ", or use a machine with more memory" : "use a machine with more memory",
          .batches = lower};
}
}  // namespace

OpenModel::OpenModel(const ModelArguments& a, int threads, int device)
    : checkpoint_(open_checkpoint(a.path)), config_(checkpoint_config(checkpoint_)) {
  tokenizer_ = resolve_vocabulary(config_);
  config_.run = run_config(a, config_.run);
  config_.run.threads = threads;
  device_ = make_device(config_.run, config_.cuda, device);
  ops_ = device_->make_ops();
}

OpenModel::OpenModel(const ModelArguments& a, const Processes& processes)
    : OpenModel(a, processes.threads_for(a.threads), processes.local_rank()) {
  if (device_->shares_host_memory()) sharing_memory_ = processes.local_ranks();
}

OpenModel::OpenModel(const ModelArguments& a, SessionShape shape) : OpenModel(a, a.threads, 0) {
  open(shape);
}

Session& OpenModel::open(SessionShape shape) {
  session_.reset();
  if (shape.tokens == 0) shape.tokens = config_.data.sequence_length;
  AvailableMemory available = device_->available_memory();
  available.bytes /= static_cast<uint64_t>(sharing_memory_);
  const SessionPlan plan = plan_session(config_, shape, device_->traits());
  check_memory(plan, available, remedy_for(shape));
  session_ = std::make_unique<Session>(*ops_, self_, config_, shape, plan);
  load_model(*session_, checkpoint_.model());
  return *session_;
}

const Tokenizer& OpenModel::tokenizer() const {
  require(tokenizer_ != nullptr, "{} holds no tokenizer, so text cannot be turned into ids", checkpoint_.path());
  return *tokenizer_;
}

}  // namespace strand::cli
