// The training loop on several ranks, which are threads: one log, one set of checkpoints, whatever the layout.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/model_size.h"
#include "core/clock.h"
#include "driven_run.h"
#include "kernels/cpu/backend.h"
#include "tests/catch.h"
#include "tests/parallel/thread_grid.h"
#include "train/rank_report.h"
#include "train/step_costs.h"
#include "train/trainer.h"

namespace strand::test {
namespace {
using nlohmann::json;

/// Eight sequences of the 12 windows a step; four experts.
Config config_in(DrivenRun& run, int expert_parallel) {
  Config c = run.config();
  c.run.dir = (std::filesystem::path(run.directory()) / "runs").string();
  c.data.train[0].path = (std::filesystem::path(run.directory()) / "tokens.bin").string();
  c.parallel.expert_parallel = expert_parallel;
  return c;
}

Config eight_sequences() {
  Config c = smallest_config();
  c.moe.num_experts = 4;
  c.moe.top_k = 2;
  c.moe.bias_rate = 1e-3;
  c.losses.sp_weight = 0.1;
  c.train.global_batch_size = 8;
  c.train.micro_batch_size = 2;
  c.train.log_every = 1;
  return c;
}

void train(const Config& config, int ranks) {
  run_ranks(ranks, static_cast<int>(config.parallel.expert_parallel), [&](ProcessGrid& grid) {
    const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
    Ops& ops = *cpu_ops;
    Trainer(config, {}, ops, grid, ranks).run();
  });
}

std::vector<json> rows_of(const DrivenRun& run) {
  std::vector<json> rows;
  std::istringstream lines(file_bytes(run.run() / "log.jsonl"));
  for (std::string line; std::getline(lines, line);) rows.push_back(json::parse(line));
  return rows;
}

TEST_CASE("Several ranks write the log of one, with what only several have") {
  DrivenRun one(eight_sequences()), four(eight_sequences());
  train(config_in(one, 1), 1);
  train(config_in(four, 2), 4);
  const std::vector<json> want = rows_of(one), got = rows_of(four);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    INFO(got[i].dump());
    CHECK(got[i]["step"] == want[i]["step"]);
    CHECK(got[i]["tokens"] == want[i]["tokens"]);
    for (const char* key : {"loss", "ce", "sp", "grad_norm", "worst_expert_load", "update_ratio", "router_bias_range"})
      CHECK(got[i][key].get<double>() == Approx(want[i][key].get<double>()).epsilon(1e-4));
    CHECK(got[i]["lr"] == want[i]["lr"]);
    CHECK(!want[i].contains("comm_bytes"));
    CHECK(got[i]["step_seconds_by_rank"]["min"] <= got[i]["step_seconds_by_rank"]["max"]);
    CHECK(got[i]["comm_bytes"]["gradients"] > 0);
    CHECK(got[i]["comm_bytes"]["dispatch"] > 0);
    CHECK(got[i]["tokens_by_rank_max_over_mean"] >= 1.0);
  }
  CHECK(four.steps() == one.steps());
}

/// The scalars of the event files of a run by their tag, in the order of the steps: within an event, a tag is followed
/// by the key of field 2 with a 32-bit value, and that value.
std::map<std::string, std::vector<float>> scalars_of(const DrivenRun& run, const std::vector<std::string>& tags) {
  std::map<std::string, std::vector<float>> scalars;
  for (const auto& entry : std::filesystem::directory_iterator(run.run())) {
    if (!entry.path().filename().string().starts_with("events.")) continue;
    const std::string bytes = file_bytes(entry.path());
    for (const std::string& tag : tags) {
      const std::string found = tag + '\x15';
      for (size_t at = bytes.find(found); at != bytes.npos; at = bytes.find(found, at + 1)) {
        float value = 0;
        std::memcpy(&value, bytes.data() + at + found.size(), sizeof value);
        scalars[tag].push_back(value);
      }
    }
  }
  return scalars;
}

/// Linear from 0 to 1 over the warm-up, then a cosine from 1 to min_lr / lr; by the step, from 1.
double cosine_schedule(const Config& c, int64_t step) {
  const double index = static_cast<double>(step - 1), warmup = static_cast<double>(c.schedule.warmup_steps);
  if (index < warmup) return c.optimizer.lr * (index + 1) / warmup;
  const double progress = (index + 1 - warmup) / (static_cast<double>(c.train.steps) - warmup);
  return c.optimizer.min_lr + (c.optimizer.lr - c.optimizer.min_lr) * (1 + std::cos(std::numbers::pi * progress)) / 2;
}

/// How many standard deviations the last of `values` is from the mean of the 128 before it; 0 where there are fewer.
double z_score(const std::vector<double>& values) {
  constexpr size_t window = 128;
  if (values.size() <= window) return 0;
  const std::span<const double> before(values.data() + values.size() - 1 - window, window);
  const double mean = std::accumulate(before.begin(), before.end(), 0.0) / window;
  double squares = 0;
  for (const double x : before) squares += (x - mean) * (x - mean);
  return (values.back() - mean) / std::sqrt(squares / window);
}

TEST_CASE("Every number of a row is of its own step and under its own name, in the log and for TensorBoard") {
  Config config = eight_sequences();
  config.train.steps = 140;  // the z-scores look back 128 steps
  config.train.checkpoint_every = 0;
  config.train.eval_every = 20;
  config.train.eval_batches = 1;
  config.schedule = {.kind = ScheduleKind::cosine, .warmup_steps = 3};
  config.optimizer.min_lr = 1e-3;
  DrivenRun run(config);
  Config validated = config_in(run, 1);
  validated.data.val = validated.data.train;
  const double begin = now();
  train(validated, 1);
  const double whole_run = now() - begin;
  std::vector<json> rows = rows_of(run);
  REQUIRE(rows.size() == 141);
  const json before = rows.front();  // the validation before the first step
  rows.erase(rows.begin());
  std::vector<double> losses, norms;
  const int64_t tokens = 8 * 8;  // a step
  double all_steps = 0, peak = 0;
  for (int64_t i = 0; i < 140; ++i) {
    const json& row = rows[static_cast<size_t>(i)];
    INFO(row.dump());
    CHECK(row["step"] == i + 1);
    CHECK(row["lr"].get<double>() == Approx(cosine_schedule(config, i + 1)).epsilon(1e-12));
    losses.push_back(row["loss"].get<double>());
    norms.push_back(row["grad_norm"].get<double>());
    CHECK(row["loss_z"].get<double>() == Approx(z_score(losses)).epsilon(1e-9).margin(1e-9));
    CHECK(row["grad_norm_z"].get<double>() == Approx(z_score(norms)).epsilon(1e-9).margin(1e-9));
    CHECK(row["tokens"] == (i + 1) * tokens);
    // The parts of a step are within it, so its speed cannot exceed what they leave.
    double parts = 0;
    for (const auto& [part, seconds] : row["step_seconds"].items()) parts += part == "data" ? 0 : seconds.get<double>();
    CHECK(row["tokens_per_second"].get<double>() * parts <= static_cast<double>(tokens) * (1 + 1e-9));
    all_steps += static_cast<double>(tokens) / row["tokens_per_second"].get<double>();
    // MFU is a speed by the peak, which may be measured again, and then is the larger one.
    const double used = model_size(config).training_flops_per_token * row["tokens_per_second"].get<double>();
    CHECK(used / row["mfu"].get<double>() >= peak * (1 - 1e-9));
    peak = used / row["mfu"].get<double>();
    CHECK(std::isfinite(peak));
    double worst = 0;
    for (const json& layer : row["expert_load"])
      for (const double share : layer) worst = std::max(worst, share * static_cast<double>(layer.size()));
    CHECK(row["worst_expert_load"].get<double>() == Approx(worst).epsilon(1e-12));
  }
  CHECK(all_steps <= whole_run);
  CHECK(rows.back()["loss_z"] != 0.0);
  CHECK(rows.back()["grad_norm_z"] != rows.back()["loss_z"]);
  const std::map<std::string, std::string> names = {{"train/loss", "loss"},
                                                    {"train/lr", "lr"},
                                                    {"train/grad_norm", "grad_norm"},
                                                    {"speed/tokens_per_second", "tokens_per_second"},
                                                    {"speed/mfu", "mfu"},
                                                    {"experts/worst_load", "worst_expert_load"},
                                                    {"experts/router_bias_range", "router_bias_range"},
                                                    {"train/update_ratio", "update_ratio"},
                                                    {"val/loss", "val_loss"},
                                                    {"val/perplexity", "val_perplexity"},
                                                    {"terms/ce", "ce"},
                                                    {"terms/sp", "sp"}};
  std::vector<std::string> tags;
  for (const auto& [tag, key] : names) tags.push_back(tag);
  const auto scalars = scalars_of(run, tags);
  rows.insert(rows.begin(), before);
  for (const auto& [tag, key] : names) {
    INFO(tag);
    REQUIRE(scalars.contains(tag));
    std::vector<float> want;
    for (const json& row : rows)
      if (row.contains(key)) want.push_back(static_cast<float>(row[key].get<double>()));
    CHECK(want.size() >= 7);
    CHECK(scalars.at(tag) == want);
  }
}

std::vector<float> floats_of(const TensorSource& source, const std::string& name) {
  const auto bytes = source.at(name).bytes();
  REQUIRE(source.at(name).entry->dtype == "F32");
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

/// Of the layer where they are furthest apart.
double range_of_biases(const Checkpoint& checkpoint) {
  double widest = 0;
  int64_t layers = 0;
  for (const auto& [name, item] : checkpoint.model().items()) {
    if (checkpoint.optimizer().items().contains("m." + name)) continue;  // a router bias has no moments
    const std::vector<float> bias = floats_of(checkpoint.model(), name);
    const auto [least, most] = std::minmax_element(bias.begin(), bias.end());
    widest = std::max(widest, static_cast<double>(*most) - static_cast<double>(*least));
    ++layers;
  }
  CHECK(layers == 2);
  return widest;
}

TEST_CASE("What a row says of the model is what the checkpoint of its step holds") {
  Config config = eight_sequences();
  config.model.num_layers = 2;
  config.moe.bias_rate = 1e-2;
  config.train.checkpoint_every = 1;
  config.train.keep = 100;
  DrivenRun run(config);
  train(config_in(run, 1), 1);
  const std::vector<json> rows = rows_of(run);
  REQUIRE(rows.size() == 4);
  std::vector<double> ranges;
  for (int64_t step = 1; step <= 4; ++step) {
    const json& row = rows[static_cast<size_t>(step) - 1];
    INFO(row.dump());
    const Checkpoint after(run.checkpoint(step));
    ranges.push_back(range_of_biases(after));
    CHECK(row["router_bias_range"] == ranges.back());
    if (step == 1) continue;
    const Checkpoint before(run.checkpoint(step - 1));
    double moved = 0, size = 0;
    for (const auto& [name, item] : after.model().items()) {
      if (!after.optimizer().items().contains("m." + name)) continue;
      const std::vector<float> was = floats_of(before.model(), name), is = floats_of(after.model(), name);
      for (size_t i = 0; i < is.size(); ++i) {
        moved += std::pow(static_cast<double>(is[i]) - static_cast<double>(was[i]), 2);
        size += std::pow(static_cast<double>(is[i]), 2);
      }
    }
    // Weights of order 1 are rounded by 1e-7, at updates of order 0.01.
    CHECK(row["update_ratio"].get<double>() == Approx(std::sqrt(moved / size)).epsilon(1e-4));
  }
  CHECK(std::set<double>(ranges.begin(), ranges.end()).size() > 1);
}

TEST_CASE("What ranks say of a step comes together: each kind of traffic, means, extremes") {
  constexpr int ranks = 4;
  std::vector<RankReport> reports(ranks);
  std::vector<StepCosts> costs(ranks);
  run_ranks(ranks, 1, [&](ProcessGrid& grid) {
    const auto rank = static_cast<double>(grid.rank());
    const auto place = static_cast<size_t>(grid.rank());
    TrafficCounts traffic;
    for (size_t k = 0; k < traffic_kinds; ++k) {
      traffic.kind[k].payload_bytes = 100 * static_cast<double>(k + 1) + rank;
      traffic.kind[k].exposed_seconds = 0.01 * rank;
      traffic.kind[k].busy_seconds = 0.03 * rank;
    }
    reports[place] = gather_rank_report(grid.control(), 1 + rank * rank, traffic, 10 + grid.rank());
    StepCosts mine{.parts = PartSeconds{}, .data_seconds = 5 + rank, .peak_bytes = rank == 2 ? 700.0 : 100.0};
    for (size_t part = 0; part < step_part_count; ++part) (*mine.parts)[part] = 10 * static_cast<double>(part) + rank;
    costs[place] = over_ranks(grid.control(), mine);
  });
  for (const RankReport& r : reports) {
    CHECK(r.fastest == 1);
    CHECK(r.median == 3.5);  // of 1, 2, 5 and 10
    CHECK(r.slowest == 10);
    CHECK(r.mean == 4.5);
    CHECK(r.rows_max_over_mean == Approx(13 / 11.5));
    CHECK(r.exposed_seconds == Approx(traffic_kinds * 0.01 * 1.5));
    CHECK(r.hidden_seconds == Approx(traffic_kinds * 0.02 * 1.5));
    for (size_t k = 0; k < traffic_kinds; ++k) CHECK(r.bytes[k] == 100 * static_cast<double>(k + 1) + 1.5);
  }
  for (const StepCosts& c : costs) {
    CHECK(c.data_seconds == 6.5);
    CHECK(c.peak_bytes == 700);
    REQUIRE(c.parts.has_value());
    for (size_t part = 0; part < step_part_count; ++part)
      CHECK((*c.parts)[part] == 10 * static_cast<double>(part) + 1.5);
  }
  // Each number is under its own name in the row.
  LogRow row(1);
  add_to(row, reports[0]);
  add_to(row, costs[0]);
  const json said = json::parse(row.json());
  CHECK(said["step_seconds_by_rank"] == json{{"min", 1.0}, {"median", 3.5}, {"max", 10.0}});
  CHECK(said["comm_seconds"]["exposed"] == reports[0].exposed_seconds);
  CHECK(said["comm_seconds"]["hidden"] == reports[0].hidden_seconds);
  CHECK(said["tokens_by_rank_max_over_mean"] == reports[0].rows_max_over_mean);
  const std::map<std::string, Traffic> kinds = {
      {"counts", Traffic::counts},         {"dispatch", Traffic::dispatch},
      {"combine", Traffic::combine},       {"specialization", Traffic::specialization},
      {"statistics", Traffic::statistics}, {"gradients", Traffic::gradients},
      {"weights", Traffic::weights},       {"control", Traffic::control}};
  REQUIRE(said["comm_bytes"].size() == kinds.size());
  for (const auto& [name, kind] : kinds) CHECK(said["comm_bytes"][name] == 101.5 + 100 * static_cast<int>(kind));
  const std::map<std::string, StepPart> parts = {{"forward", StepPart::forward},
                                                 {"head", StepPart::head},
                                                 {"backward", StepPart::backward},
                                                 {"update", StepPart::update},
                                                 {"exchange", StepPart::exchange}};
  REQUIRE(said["step_seconds"].size() == parts.size() + 1);
  for (const auto& [name, part] : parts) CHECK(said["step_seconds"][name] == 1.5 + 10 * static_cast<int>(part));
  CHECK(said["step_seconds"]["data"] == 6.5);
  CHECK(said["peak_bytes"] == 700.0);
}

TEST_CASE("A run goes on in another layout, with the losses of an undisturbed one") {
  DrivenRun whole(eight_sequences()), moved(eight_sequences());
  train(config_in(whole, 1), 1);
  Config config = config_in(moved, 2);
  config.train.steps = 2;
  train(config, 4);
  config = config_in(moved, 1);
  train(config, 2);
  const std::vector<json> want = rows_of(whole), got = rows_of(moved);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i)
    CHECK(got[i]["loss"].get<double>() == Approx(want[i]["loss"].get<double>()).epsilon(1e-4));
}

TEST_CASE("Stopped and continued in the same layout: the same bytes as undisturbed") {
  DrivenRun whole(eight_sequences()), stopped(eight_sequences());
  train(config_in(whole, 2), 2);
  Config config = config_in(stopped, 2);
  config.train.steps = 2;
  train(config, 2);
  train(config_in(stopped, 2), 2);
  const auto digests = [](const DrivenRun& run) {
    json files = json::parse(file_bytes(run.checkpoint(4) / "manifest.json"))["files"];
    files.erase("config.yaml");  // names its directory
    return files;
  };
  CHECK(digests(stopped) == digests(whole));
  CHECK(digests(whole).contains("model-00002-of-00002.safetensors"));
}

TEST_CASE("Ranks that cannot share the step or the experts are refused, all with the same words") {
  DrivenRun run(eight_sequences());
  CHECK_THROWS_WITH(train(config_in(run, 1), 3), Catch::Contains("times 3 ranks"));
  Config config = config_in(run, 1);
  config.train.micro_batch_size = 1;
  config.parallel.expert_parallel = 8;
  CHECK_THROWS_WITH(train(config, 8), Catch::Contains("divide"));
  CHECK(!std::filesystem::exists(run.run()));
}

TEST_CASE("Ranks whose copies of the training data differ are refused, before anything is written") {
  DrivenRun run(eight_sequences());
  const Config config = config_in(run, 1);
  const std::string other = (std::filesystem::path(run.directory()) / "other.bin").string();
  std::string bytes = file_bytes(config.data.train[0].path);
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  put_file_bytes(other, bytes);
  CHECK_THROWS_WITH(run_ranks(2, 1,
                              [&](ProcessGrid& grid) {
                                Config mine = config;
                                if (grid.rank() == 1) mine.data.train[0].path = other;
                                const std::unique_ptr<Ops> ops = make_cpu_ops();
                                Trainer(mine, {}, *ops, grid, 2).run();
                              }),
                    Catch::Contains("training data") && Catch::Contains("97 ids of u16"));
  CHECK(!std::filesystem::exists(run.run()));
}

TEST_CASE("A directory that only the first rank finds unusable stops every rank") {
  DrivenRun run(eight_sequences());
  const Config config = config_in(run, 1);
  std::filesystem::create_directories(run.run());
  put_file_bytes(run.run() / "checkpoints", "in the way");
  CHECK_THROWS(train(config, 2));
}

}  // namespace
}  // namespace strand::test
