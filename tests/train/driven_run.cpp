#include "driven_run.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/schema.h"
#include "core/error.h"
#include "core/random.h"
#include "fault_layer.h"

namespace strand::test {

namespace fs = std::filesystem;

namespace {
constexpr int64_t windows = 12;

/// Ids as nanoGPT keeps them: two bytes each and nothing else.
std::string token_file(const Config& config) {
  std::string bytes;
  for (int64_t i = 0; i < windows * config.data.sequence_length + 1; ++i) {
    const uint64_t id = random_bits(7, static_cast<uint64_t>(i)) % static_cast<uint64_t>(config.model.vocab_size);
    bytes += {static_cast<char>(id & 0xff), static_cast<char>(id >> 8)};
  }
  return bytes;
}

int wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) fail_errno("wait for", "the driver");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
}  // namespace

std::string file_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void put_file_bytes(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

Config smallest_config() {
  Config c;
  c.run.name = "tiny";
  c.run.threads = 1;
  c.run.report = false;  // a run goes well without it, and these runs count every call that needs space
  c.model = {.vocab_size = 19, .hidden_size = 10, .num_layers = 1, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6};
  c.moe = {.num_experts = 3, .top_k = 2, .expert_ffn = 7};
  c.moe.bias_rate = 1e-2;
  c.data.train = {{.path = "tokens.bin", .format = "raw_u16"}};
  c.data.sequence_length = 8;
  c.optimizer.lr = 1e-2;
  c.schedule.kind = ScheduleKind::constant;
  c.train.steps = 4;
  c.train.global_batch_size = c.train.micro_batch_size = 2;
  c.train.checkpoint_every = 2;
  return c;
}

DrivenRun::DrivenRun(const Config& config) : config_(config) {
  std::string name = (fs::temp_directory_path() / "strand_run_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) fail_errno("create", name);
  root_ = name;
  put_file_bytes(root_ / "tokens.bin", token_file(config));
}

DrivenRun::~DrivenRun() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

Ended DrivenRun::drive(std::vector<std::string> arguments) {
  put_file_bytes(root_ / "config.yaml", to_yaml(config_));
  arguments.insert(arguments.begin(), {STRAND_BINARY_DIR "/faults_driver", "config.yaml"});
  std::vector<char*> argv;
  for (std::string& word : arguments) argv.push_back(word.data());
  argv.push_back(nullptr);
  const fs::path errors = root_ / "stderr";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
                                   0666);
  posix_spawn_file_actions_addchdir_np(&actions, root_.c_str());
  pid_t child = -1;
  const int code = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  require(code == 0, "cannot start {}: error {}", argv[0], code);
  Ended ended;
  ended.status = wait_for(child);
  ended.errors = file_bytes(errors);
  ended.fault = ended.errors.find(fault_mark) != std::string::npos;
  return ended;
}

Ended DrivenRun::train(const std::string& fault, const std::string& resume) {
  return drive({fault, resume});
}

Ended DrivenRun::train_weights_only(const std::string& from, const std::string& fault) {
  return drive({fault, from, "weights-only"});
}

Ended DrivenRun::train_accepting_data_change() {
  return drive({"none", "auto", "accept-data-change"});
}

void DrivenRun::complete(const std::string& resume) {
  const Ended ended = train("none", resume);
  require(ended.status == 0, "the run ended with {}: {}", ended.status, ended.errors);
}

fs::path DrivenRun::checkpoint(int64_t step) const {
  return run() / "checkpoints" / fmt::format("step_{:08}", step);
}

std::vector<int64_t> DrivenRun::steps() const {
  std::vector<int64_t> steps;
  for (const auto& entry : fs::directory_iterator(run() / "checkpoints"))
    steps.push_back(std::stol(entry.path().filename().string().substr(5)));
  std::sort(steps.begin(), steps.end());
  return steps;
}

void DrivenRun::start_over() {
  fs::remove_all(root_ / "runs");
}

Remains DrivenRun::remains() const {
  Remains remains;
  const fs::path parent = run() / "checkpoints";
  for (const auto& entry : fs::recursive_directory_iterator(parent))
    remains.checkpoints[entry.path().lexically_relative(parent)] =
        entry.is_directory() ? "(directory)" : file_bytes(entry.path());
  std::istringstream lines(file_bytes(run() / "log.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    auto row = nlohmann::ordered_json::parse(line);
    for (const char* clock : {"tokens_per_second", "mfu", "step_seconds", "peak_bytes"}) row.erase(clock);
    remains.rows.push_back(row.dump());
  }
  return remains;
}

Remains undisturbed(const Config& config) {
  DrivenRun run(config);
  run.complete();
  return run.remains();
}

}  // namespace strand::test
