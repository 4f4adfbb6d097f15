// `mpirun -n N strand train`: the same model in every layout, checkpoints that travel between layouts, and what happens
// when a rank dies.
#include <fmt/core.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "checkpoint/tensor_source.h"
#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
struct Layout {
  int ranks = 1, expert_parallel = 1;
};

std::string text(Layout l) {
  return fmt::format("n{}ep{}", l.ranks, l.expert_parallel);
}

/// mpirun with the options that a host with few cores, and root in a container, need.
std::vector<std::string> mpirun(int ranks) {
  return {"/usr/bin/env",
          "OMPI_ALLOW_RUN_AS_ROOT=1",
          "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
          "mpirun",
          "--oversubscribe",
          "--bind-to",
          "none",
          "-n",
          std::to_string(ranks)};
}

/// Whether a child of ours is still at work; it stays to be waited for.
bool runs(pid_t child) {
  siginfo_t ended{};
  return waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0;
}

/// `strand train tiny.yaml` in a layout: `batch` sequences a step, in `micro_steps` micro-steps.
std::vector<std::string> command(const std::string& name, Layout l, int batch, int micro_steps,
                                 const std::vector<std::string>& more) {
  std::vector<std::string> words = mpirun(l.ranks);
  words.push_back(strand_program());
  const std::vector<std::string> overrides = {
      "run.threads=1",
      fmt::format("train.global_batch_size={}", batch),
      fmt::format("train.micro_batch_size={}", batch / (l.ranks * micro_steps)),
      fmt::format("parallel.expert_parallel={}", l.expert_parallel),
      "parallel.watchdog_seconds=60",
      "losses.lb_scope=microbatch",
      "losses.o_weight=1.0e-3",
      "moe.shared_experts=1",
      "moe.bias_rate=1.0e-3",
  };
  std::vector<std::string> arguments = workspace().train(name);
  for (const std::string& o : overrides) arguments.insert(arguments.end(), {"--set", o});
  arguments.insert(arguments.end(), more.begin(), more.end());
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

void train(const std::string& name, Layout l, int batch, int micro_steps, const std::vector<std::string>& more = {}) {
  const Outcome outcome = run_program(command(name, l, batch, micro_steps, more), workspace().root());
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.status == 0);
}

std::string at_step(const std::string& name, int64_t step) {
  return workspace().checkpoint(name, step).string();
}

/// The row of the log for one step.
json row(const std::string& name, int64_t step) {
  for (const json& r : workspace().log(name))
    if (r["step"] == step) return r;
  FAIL(name << " has logged no step " << step);
  return {};
}

void check_row(const json& got, const json& expected, double tolerance) {
  for (const char* key : {"loss", "ce", "lb", "z", "sp", "cp", "o", "v", "entropy", "grad_norm"}) {
    INFO("step " << expected["step"] << ", " << key);
    REQUIRE(got.contains(key) == expected.contains(key));  // of a step that is not logged, sp, cp and o may be absent
    if (expected.contains(key)) CHECK(got[key].get<double>() == Approx(expected[key].get<double>()).epsilon(tolerance));
  }
}

/// The 2-norm of the difference of all weights, over the 2-norm of the weights.
double weights_apart(const std::string& one, const std::string& other, int64_t step) {
  const TensorSource a(at_step(one, step), "model"), b(at_step(other, step), "model");
  REQUIRE(a.items().size() == b.items().size());
  double difference = 0, size = 0;
  for (const auto& [name, item] : a.items()) {
    const auto x = item.bytes(), y = b.at(name).bytes();
    REQUIRE(x.size() == y.size());
    for (size_t i = 0; i < x.size(); i += sizeof(float)) {
      float p = 0, q = 0;
      std::memcpy(&p, x.data() + i, sizeof(float));
      std::memcpy(&q, y.data() + i, sizeof(float));
      difference += (double(p) - q) * (double(p) - q);
      size += double(p) * p;
    }
  }
  return std::sqrt(difference / size);
}

/// A row of the log without what depends on the clock.
json timeless(json r) {
  for (const char* key :
       {"tokens_per_second", "mfu", "step_seconds_by_rank", "comm_seconds", "step_seconds", "peak_bytes"})
    r.erase(key);
  return r;
}

/// The processes that mpirun has started.
std::vector<pid_t> ranks_of(pid_t launcher) {
  std::ifstream children(fmt::format("/proc/{}/task/{}/children", launcher, launcher));
  std::vector<pid_t> found;
  for (pid_t child = 0; children >> child;) found.push_back(child);
  return found;
}
}  // namespace

TEST_CASE("every layout trains the model that one process trains") {
  const std::vector<std::string> ten = {"--set", "train.steps=10"};
  train("n1ep1", {1, 1}, 8, 2, ten);
  for (const Layout l : {Layout{2, 1}, Layout{2, 2}, Layout{4, 1}, Layout{4, 2}, Layout{4, 4}}) {
    const std::string name = text(l);
    train(name, l, 8, 2, ten);
    INFO(name);
    // fp32 sums in another order; then ten updates, each of which divides gradients by their own size.
    check_row(row(name, 1), row("n1ep1", 1), 1e-5);
    check_row(row(name, 10), row("n1ep1", 10), 1e-4);
    for (const char* key : {"val_loss", "val_bits_per_byte"})
      CHECK(row(name, 10)[key].get<double>() == Approx(row("n1ep1", 10)[key].get<double>()).epsilon(1e-5));
    CHECK(weights_apart("n1ep1", name, 10) < 1e-4);
    CHECK(row(name, 10).contains("comm_seconds"));
  }
}

TEST_CASE("how a step is cut into micro-steps changes nothing when statistics are by sequence") {
  const std::vector<std::string> by_sequence = {"--set", "train.steps=10", "--set", "losses.lb_scope=sequence"};
  train("uncut", {1, 1}, 8, 1, by_sequence);
  for (const int micro_steps : {1, 2, 4}) {
    const std::string name = fmt::format("cut_{}", micro_steps);
    train(name, {2, 2}, 8, micro_steps, by_sequence);
    INFO(name);
    check_row(row(name, 1), row("uncut", 1), 1e-5);
    CHECK(weights_apart("uncut", name, 10) < 1e-4);
  }
}

TEST_CASE("reference files are reproduced in every layout that divides them") {
  const auto verify = [](Layout l, const std::vector<const char*>& files) {
    std::vector<std::string> words = mpirun(l.ranks);
    words.insert(words.end(), {strand_program(), "verify", "--threads", "1", "--expert-parallel",
                               std::to_string(l.expert_parallel)});
    for (const char* file : files)
      words.push_back(fmt::format("{}/tests/data/{}.safetensors", STRAND_SOURCE_DIR, file));
    return run_program(words, workspace().root());
  };
  const auto check_passes = [&](Layout l, const std::vector<const char*>& files) {
    const Outcome outcome = verify(l, files);
    INFO(text(l) << "\n" << outcome.out << outcome.err);
    CHECK(outcome.status == 0);
    CHECK_THAT(outcome.out, Contains(fmt::format("{0} of {0} files pass", files.size())));
  };
  for (const Layout l : {Layout{2, 1}, Layout{2, 2}, Layout{4, 1}, Layout{4, 2}, Layout{4, 4}})
    check_passes(l, {"ranks_softmax_bias", "ranks_sigmoid_o_v"});
  check_passes({2, 1},
               {"ce_only", "cp_batch_all", "cp_token_activated", "cp_token_all", "gqa_qknorm_head", "gqa_yarn",
                "lb_microbatch", "mla_q_latent", "mla_yarn", "o_v", "paper_weights", "qknorm_full_partial_rope_dense",
                "sigmoid_bias_shared", "sp_only", "top1_idle_experts", "v_microbatch", "z_only"});
  check_passes({2, 2}, {"ce_only", "gqa_qknorm_head", "gqa_yarn", "lb_microbatch", "qknorm_full_partial_rope_dense",
                        "top1_idle_experts", "v_microbatch", "z_only"});
  const auto check_refused = [&](Layout l, const char* file, const char* reason) {
    const Outcome outcome = verify(l, {file});
    CHECK(outcome.status != 0);
    CHECK_THAT(outcome.err, Contains(reason));
  };
  check_refused({2, 1}, "lb_sequence", "sequences does not divide by 2 ranks");
  check_refused({2, 2}, "sp_only", "num_experts 5");
}

TEST_CASE("checkpoints travel between layouts; at the same one every bit is kept") {
  const Layout four{4, 4};
  train("whole", four, 12, 1);
  const std::string middle = at_step("whole", 10);
  SECTION("the same layout") {
    train("again", four, 12, 1, {"--resume", middle});
    for (int64_t step = 11; step <= 20; ++step) CHECK(timeless(row("again", step)) == timeless(row("whole", step)));
    CHECK(weights_apart("whole", "again", 20) == 0);
  }
  SECTION("other layouts") {
    for (const Layout l : {Layout{1, 1}, Layout{2, 1}, Layout{3, 1}, Layout{4, 2}}) {
      const std::string name = "from_four_" + text(l);
      train(name, l, 12, 1, {"--resume", middle});
      INFO(name);
      check_row(row(name, 11), row("whole", 11), 1e-5);
      check_row(row(name, 20), row("whole", 20), 1e-4);
    }
  }
}

TEST_CASE("one process evaluates, exports and describes what many have saved") {
  const std::vector<std::string> exportable = {"--set", "moe.shared_experts=0", "--set", "moe.bias_rate=0",  //
                                               "--set", "moe.renormalize=true", "--set", "train.steps=10"};
  train("many", {4, 2}, 8, 1, exportable);
  const std::string checkpoint = at_step("many", 10);
  CHECK(std::filesystem::exists(std::filesystem::path(checkpoint) / "model.safetensors.index.json"));
  const Outcome eval = workspace().strand({"eval", checkpoint, "--data", "val", "--json"});
  INFO(eval.out << eval.err);
  CHECK(eval.status == 0);
  CHECK(json::parse(eval.out)["ce"].get<double>() == Approx(row("many", 10)["val_loss"].get<double>()).epsilon(1e-5));
  CHECK(workspace().strand({"inspect", checkpoint}).status == 0);
  const Outcome exported = workspace().strand({"export", checkpoint, "--format", "hf", "--out", "exported"});
  INFO(exported.out << exported.err);
  CHECK(exported.status == 0);
}

TEST_CASE("several processes score what one scores") {
  train("judge", {1, 1}, 8, 1, {"--set", "train.steps=10"});
  std::ofstream pairs(workspace().root() / "pairs.jsonl");
  for (const char* context : {"The river", "My neighbour", "", "A small bird lost"})
    for (const char* end : {" carried", " his brother's letter under the bridge", " x"})
      pairs << json{{"context", context}, {"continuation", end}}.dump() << "\n";
  pairs << json{{"text", "Nobody in the village followed the long road before the rain."}}.dump() << "\n";
  pairs.close();
  const auto scores = [](int ranks) {
    std::vector<std::string> words = mpirun(ranks);
    words.insert(words.end(), {strand_program(), "score", at_step("judge", 10), "pairs.jsonl", "--threads", "1"});
    const Outcome outcome = run_program(words, workspace().root());
    INFO(outcome.err);
    CHECK(outcome.status == 0);
    std::istringstream in(outcome.out);
    std::vector<json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
    return lines;
  };
  const std::vector<json> one = scores(1), three = scores(3);
  REQUIRE(one.size() == 13);
  REQUIRE(three.size() == 13);
  for (size_t i = 0; i < one.size(); ++i) {
    // The same sums in passes of other sizes, in single precision.
    CHECK(three[i]["log_likelihood"].get<double>() == Approx(one[i]["log_likelihood"].get<double>()).margin(1e-3));
    CHECK(three[i].value("greedy", false) == one[i].value("greedy", false));
  }
  std::vector<std::string> broken = mpirun(2);
  broken.insert(broken.end(), {strand_program(), "score", at_step("judge", 10), "no_such_file.jsonl"});
  CHECK(run_program(broken, workspace().root()).status != 0);
  broken.back() = "-";  // which one rank alone could read
  const Outcome piped = run_program(broken, workspace().root());
  CHECK(piped.status != 0);
  CHECK_THAT(piped.err, Contains("standard input reaches one of 2 processes alone"));
}

namespace {
/// Trains for ever on four ranks until `due`, then sends one of them a signal, and waits for the end of all.
Outcome disturbed(const std::string& name, int signal, const std::function<bool()>& due) {
  const std::vector<std::string> for_ever = {"--set", "train.steps=100000", "--set", "train.checkpoint_every=5",
                                             "--set", "train.eval_every=0", "--set", "parallel.watchdog_seconds=3"};
  return run_program(command(name, {4, 2}, 8, 1, for_ever), workspace().root(), [&](pid_t launcher) {
    while (runs(launcher) && !due()) std::this_thread::sleep_for(std::chrono::microseconds(100));
    const std::vector<pid_t> ranks = ranks_of(launcher);
    if (ranks.size() == 4) kill(ranks[2], signal);
  });
}

bool has_logged(const std::string& name, size_t rows) {
  return std::filesystem::exists(workspace().run(name) / "log.jsonl") && workspace().log(name).size() >= rows;
}

bool writes_checkpoint(const std::string& name) {
  const auto directory = workspace().run(name) / "checkpoints";
  std::error_code vanished;
  for (const auto& entry : std::filesystem::directory_iterator(directory, vanished))
    if (entry.path().extension() == ".tmp") return true;
  return false;
}

/// The run goes on, on two ranks, to a step beyond what it has logged.
void check_continues(const std::string& name) {
  const auto rows = static_cast<int64_t>(workspace().log(name).size());
  const int64_t steps = (rows / 5 + 2) * 5;
  train(name, {2, 2}, 8, 1,
        {"--set", fmt::format("train.steps={}", steps), "--set", "train.checkpoint_every=5", "--set",
         "train.eval_every=0"});
  CHECK(row(name, steps)["step"] == steps);
}
}  // namespace

TEST_CASE("when a rank is killed all end, saying where, and the run goes on with fewer") {
  const Outcome outcome = disturbed("killed", SIGKILL, [] { return has_logged("killed", 12); });
  INFO(outcome.err);
  CHECK(outcome.status != 0);
  CHECK_THAT(outcome.err, Contains("rank"));
  CHECK_THAT(outcome.err, Contains("step") || (Contains("prterun ") && Contains("process rank 2 with PID")));
  check_continues("killed");
}

TEST_CASE("when a rank is killed in the middle of a checkpoint the one before is whole") {
  const Outcome outcome = disturbed("torn", SIGKILL, [begun = false]() mutable {
    begun = begun || has_logged("torn", 12);  // reading the log takes longer than a checkpoint lasts
    return begun && writes_checkpoint("torn");
  });
  INFO(outcome.err);
  CHECK(outcome.status != 0);
  check_continues("torn");
}

TEST_CASE("when a rank stands still the watchdog ends all, naming rank, step, layer and operation") {
  const Outcome outcome = disturbed("still", SIGSTOP, [] { return has_logged("still", 12); });
  INFO(outcome.err);
  CHECK(outcome.status != 0);
  CHECK_THAT(outcome.err, Contains("rank 2") && Contains("has waited") && Contains("step"));
  CHECK(outcome.err.find("warning") == outcome.err.rfind("warning"));  // of data.val, which is idle: once, not by all
  check_continues("still");
}

TEST_CASE("what cannot be is refused once, with the reason") {
  const auto refused = [](const std::vector<std::string>& words) {
    const Outcome outcome = run_program(words, workspace().root());
    CHECK(outcome.status != 0);
    return outcome.err;
  };
  CHECK_THAT(refused(command("no", {2, 1}, 8, 1, {"--set", "parallel.expert_parallel=4"})),
             Contains("expert_parallel") && Contains("2"));
  CHECK_THAT(refused(command("no", {3, 1}, 8, 1, {})), Contains("global_batch_size") && Contains("3 divides"));
  CHECK_THAT(refused(command("no", {2, 1}, 8, 1, {"--set", "train.micro_batch_size=8"})),
             Contains("train.micro_batch_size=4 would do"));
  std::vector<std::string> different = command("no", {2, 1}, 8, 1, {});
  different.insert(std::find(different.begin(), different.end(), strand_program()),
                   {"/bin/sh", "-c", R"(exec "$0" "$@" --set optimizer.lr=$((OMPI_COMM_WORLD_RANK + 1))e-3)"});
  CHECK_THAT(refused(different), Contains("lr"));
  std::vector<std::string> alone = mpirun(2);
  alone.insert(alone.end(), {strand_program(), "eval", "nowhere", "--data", "val"});
  CHECK_THAT(refused(alone), Contains("without"));
  CHECK_FALSE(std::filesystem::exists(workspace().run("no")));
}
