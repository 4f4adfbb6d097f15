// Continuing with another configuration, or from another run: what is refused, what is said, what is taken along.
#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "driven_run.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// Everything that a model may have: a dense layer, norms of heads, a shared expert, a selection bias.
Config full_config() {
  Config c = smallest_config();
  c.model.num_layers = 2;
  c.model.dense_layers = 1;
  c.model.dense_ffn = 13;
  c.model.qk_norm = QkNorm::head;
  c.model.tied_embeddings = false;
  c.moe.num_experts = 5;
  c.moe.top_k = 3;
  c.moe.shared_experts = 1;
  return c;
}

/// A finished run of four steps with checkpoints of 2 and 4.
class FinishedRun : public DrivenRun {
 public:
  FinishedRun() : DrivenRun(full_config()) { complete(); }
};

/// `change`d, the run is refused with an error that holds these words, and nothing in its directory changes.
template <typename Change>
void check_refused(const Change& change, const std::vector<std::string>& words, const std::string& resume = "auto") {
  FinishedRun run;
  const Remains before = run.remains();
  const std::string config = file_bytes(run.run() / "config.yaml");
  change(run.config());
  const Ended ended = run.train("none", resume);
  CHECK(ended.status == 1);
  for (const std::string& word : words) CHECK_THAT(ended.errors, Contains(word));
  CHECK(run.remains() == before);
  CHECK(file_bytes(run.run() / "config.yaml") == config);
}

TEST_CASE("A checkpoint of another model is refused, naming every key") {
  check_refused(
      [](Config& c) {
        c.model.hidden_size = 16;
        c.model.head_dim = 8;
        c.moe.top_k = 2;
        c.moe.bias_rate = 0.5;
      },
      {"the model is another one", "model.hidden_size: 10 became 16", "model.head_dim: 6 became 8",
       "moe.top_k: 3 became 2", "moe.bias_rate: 0.01 became 0.5"});
  check_refused([](Config& c) { c.run.seed = 5; }, {"run.seed is 1, this one's is 5"});
  check_refused([](Config& c) { c.train.steps = 3; }, {"is at step 4, beyond train.steps 3"});
}

TEST_CASE("Optimizer, schedule and losses may change, and what changed is said") {
  FinishedRun run;
  Config& c = run.config();
  c.train.steps = 6;
  c.optimizer.lr = 0.5;
  c.schedule = {.kind = ScheduleKind::linear, .warmup_steps = 1};
  c.losses.z_weight = 0.25;
  const Ended ended = run.train();
  INFO(ended.errors);
  REQUIRE(ended.status == 0);
  for (const char* change :
       {"optimizer.lr: 0.01 became 0.5", "schedule.kind: constant became linear", "schedule.warmup_steps: 0 became 1",
        "losses.z_weight: 0.0 became 0.25", "train.steps: 4 became 6"})
    CHECK_THAT(ended.errors, Contains(std::string("changed since the checkpoint: ") + change));
  CHECK(std::count(ended.errors.begin(), ended.errors.end(), '\n') == 7);  // these, the jump of the rate and where it continues
  CHECK_THAT(ended.errors, Contains("the learning rate jumps: step 4 had 0.01, step 5 has 0.1"));
  const auto row = nlohmann::json::parse(run.remains().rows[5]);
  CHECK(row["lr"] == c.optimizer.min_lr);  // linear to the last step
  CHECK(row["loss"].get<double>() == Approx(row["ce"].get<double>() + 0.25 * row["z"].get<double>()).epsilon(1e-12));
}

TEST_CASE("An older checkpoint of a run that has a newer one is refused: steps would be missing later") {
  check_refused([](Config& c) { c.train.steps = 6; }, {"newer checkpoint", "step_00000004", "move that one away"},
                "runs/tiny/checkpoints/step_00000002");
  FinishedRun run;
  const Remains expected = run.remains();
  fs::remove_all(run.checkpoint(4));
  run.complete("runs/tiny/checkpoints/step_00000002");
  CHECK(run.remains() == expected);
}

TEST_CASE("A run directory that holds a run takes no checkpoint of another") {
  FinishedRun other;
  check_refused([](Config&) {}, {"already holds a run"}, other.checkpoint(2).string());
}

TEST_CASE("Continued in another directory from another run's checkpoint: the same bytes, and a checkpoint at once") {
  FinishedRun other;
  DrivenRun run(full_config());
  REQUIRE(run.train("row:1", other.checkpoint(2).string()).status == 128 + SIGKILL);
  CHECK(run.steps() == std::vector<int64_t>{2});
  CHECK(file_bytes(run.checkpoint(2) / "manifest.json") == file_bytes(other.checkpoint(2) / "manifest.json"));
  run.complete();
  CHECK(run.remains().checkpoints == other.remains().checkpoints);
}

TEST_CASE("--weights-only starts a new run from the weights, with new moments, and auto continues that one") {
  FinishedRun other;
  Config config = full_config();
  config.optimizer.lr = 1e-3;
  config.losses.lb_weight = 0.1;
  DrivenRun run(config), straight(config);
  const Ended ended = straight.train_weights_only(other.checkpoint(4));
  INFO(ended.errors);
  REQUIRE(ended.status == 0);
  CHECK_THAT(ended.errors, Contains("a new run from the weights of ") && !Contains("changed since"));
  CHECK(straight.remains().rows.size() == 4);

  REQUIRE(run.train_weights_only(other.checkpoint(4), "row:1").status == 128 + SIGKILL);
  REQUIRE(run.steps() == std::vector<int64_t>{0});
  CHECK(file_bytes(run.checkpoint(0) / "model.safetensors") == file_bytes(other.checkpoint(4) / "model.safetensors"));
  const std::string moments = file_bytes(run.checkpoint(0) / "optimizer.safetensors");
  CHECK(std::all_of(moments.begin() + static_cast<long>(moments.rfind('}')) + 1, moments.end(),
                    [](char c) { return c == 0 || c == ' '; }));
  CHECK_THAT(run.train_weights_only(other.checkpoint(4)).errors, Contains("already holds a run"));
  run.complete();
  CHECK(run.remains() == straight.remains());
}

TEST_CASE("--weights-only needs the same model, and to be told whose weights") {
  FinishedRun other;
  Config config = full_config();
  config.moe.expert_ffn = 16;
  DrivenRun run(config);
  CHECK_THAT(run.train_weights_only(other.checkpoint(4)).errors, Contains("moe.expert_ffn: 7 became 16"));
  CHECK_THAT(run.train_weights_only("auto").errors, Contains("--weights-only needs --resume DIR"));
  CHECK_FALSE(fs::exists(run.run()));
}

TEST_CASE("A checkpoint without moments gives weights, and is no run to continue") {
  FinishedRun other;
  // What is not listed must not be there, and what is listed must be: take both out.
  const fs::path manifest = other.checkpoint(4) / "manifest.json";
  auto listed = nlohmann::json::parse(file_bytes(manifest));
  listed["files"].erase("optimizer.safetensors");
  put_file_bytes(manifest, listed.dump());
  fs::remove(other.checkpoint(4) / "optimizer.safetensors");
  DrivenRun run(full_config());
  const Ended ended = run.train("none", other.checkpoint(4).string());
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("holds weights only"));
  CHECK_FALSE(fs::exists(run.run()));
  CHECK(run.train_weights_only(other.checkpoint(4)).status == 0);
}

TEST_CASE("Whatever became of its log and its diagnostic files, a run continues, with the rows that can be read") {
  const Remains expected = [] {
    FinishedRun run;
    run.config().train.steps = 6;
    run.complete();
    return run.remains();
  }();
  const std::string kind = GENERATE("blank line", "row cut by a crash, then a newline", "binary", "no log", "events");
  INFO(kind);
  FinishedRun run;
  const fs::path log = run.run() / "log.jsonl";
  const std::string text = file_bytes(log);
  const size_t second = text.find('\n') + 1;
  if (kind == "blank line") put_file_bytes(log, text + "\n");
  if (kind == "binary") put_file_bytes(log, text.substr(0, second) + "\xff\n" + text.substr(second));
  if (kind == "no log") fs::remove(log);
  if (kind == "row cut by a crash, then a newline") put_file_bytes(log, text + "{\"step\":5,\"lo\n");
  put_file_bytes(run.run() / "config.yaml", "{{{ not yaml");
  for (const auto& entry : fs::directory_iterator(run.run()))
    if (kind == "events" && entry.path().filename().string().starts_with("events"))
      put_file_bytes(entry.path(), "no events");
  run.config().train.steps = 6;
  const Ended ended = run.train();
  INFO(ended.errors);
  REQUIRE(ended.status == 0);
  const std::vector<std::string> rows = run.remains().rows;
  const auto lost = static_cast<long>(kind == "no log" ? 4 : 0);
  CHECK(rows == std::vector<std::string>(expected.rows.begin() + lost, expected.rows.end()));
  const bool damaged = kind != "no log" && kind != "events";
  CHECK(fs::exists(run.run() / "log.jsonl.damaged") == damaged);
  if (damaged) CHECK_THAT(ended.errors, Contains("log.jsonl.damaged"));
}

}  // namespace
}  // namespace strand::test
