// The whole program on an emulated GPU (tests/gpu_emulation), and the real one where there is no GPU: training as on
// the CPU, saving and resuming across devices, the other commands, and how a run ends whose GPU fails.
#include <algorithm>
#include <cmath>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
const std::string program = STRAND_BINARY_DIR "/strand_emulated";

/// The emulated program in the workspace, with settings of the emulation ("GPU_EMULATION_SEED=2").
Outcome emulated(const std::vector<std::string>& arguments, const std::vector<std::string>& settings = {}) {
  std::vector<std::string> words = {"/usr/bin/env"};
  words.insert(words.end(), settings.begin(), settings.end());
  words.push_back(program);
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program(words, workspace().root());
}

std::vector<std::string> plus(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// An emulated GPU is slow: small batches, and no validation on the way. The learning rate does not depend on the
/// number of steps, so that a run of ten steps is the first half of one of twenty.
std::vector<std::string> training(const std::string& name, const std::vector<std::string>& more) {
  return plus(
      workspace().train(name, {"--set", "train.global_batch_size=4", "--set", "train.micro_batch_size=2", "--set",
                               "train.eval_every=0", "--set", "schedule.kind=constant", "--set", "optimizer.lr=3e-3"}),
      more);
}

void train(const std::string& name, const std::vector<std::string>& more,
           const std::vector<std::string>& settings = {}) {
  const Outcome outcome = emulated(training(name, more), settings);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
}

const std::vector<std::string> on_cuda = {"--set", "run.device=cuda"};

/// The twenty steps of tiny.yaml on the emulated GPU, and on the CPU.
const std::string& cuda_run() {
  static const std::string name = [] {
    train("cuda", on_cuda);
    return "cuda";
  }();
  return name;
}
const std::string& cpu_run() {
  static const std::string name = [] {
    train("cpu", {});
    return "cpu";
  }();
  return name;
}

/// Two runs from step `first` on take the same steps, up to rounding in fp32. Rounding differs by 1e-8 to 1e-5 (sp, a
/// sum of small cosines) and now and then tips a nearly tied choice of experts, which then shows in the terms of the
/// router and of the experts, and hardly in the loss.
void check_same_curve(const std::string& one, const std::string& other, int64_t first) {
  const std::vector<json> a = workspace().log(one), b = workspace().log(other);
  REQUIRE(a.size() == b.size());
  constexpr int64_t before_any_tip = 8;
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t step = a[i]["step"];
    if (step < first) continue;
    const auto close = [&](const char* key, double tolerance) {
      const double x = a[i][key], y = b[i][key];
      INFO("step " << step << ", " << key << ": " << x << " and " << y);
      CHECK(std::abs(x - y) <= tolerance * std::max({std::abs(x), std::abs(y), 1e-3}));
    };
    for (const char* key : {"loss", "ce"})
      if (a[i].contains(key)) close(key, step <= before_any_tip ? 1e-6 : 1e-3);
    for (const char* key : {"lb", "z", "sp", "cp", "grad_norm"})
      if (a[i].contains(key) && step <= before_any_tip) close(key, 1e-4);
  }
}

void check_same_weights(const std::string& one, const std::string& other, int64_t step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string a = bytes_of(workspace().checkpoint(one, step) / file);
    CHECK(a.size() > 1000);
    CHECK(a == bytes_of(workspace().checkpoint(other, step) / file));
  }
}
}  // namespace

TEST_CASE("training on cuda takes the CPU's steps, up to rounding") {
  check_same_curve(cpu_run(), cuda_run(), 0);
}

TEST_CASE("the order in which threads and blocks run changes no bit") {
  train("reversed", on_cuda, {"GPU_EMULATION_ORDER=last_to_first"});
  train("another", on_cuda, {"GPU_EMULATION_SEED=7"});
  for (const char* name : {"reversed", "another"}) check_same_weights(cuda_run(), name, 20);
}

TEST_CASE("a step that is recorded as a graph gives the bits of one that is not, and the start says which it is") {
  const auto said = [](const std::string& name, const std::vector<std::string>& more) {
    const Outcome outcome = emulated(training(name, plus(on_cuda, more)));
    INFO(outcome.err);
    CHECK(outcome.status == 0);
    return outcome.out + outcome.err;
  };
  CHECK_THAT(said("no_graph", {"--set", "cuda.graph=false"}),
             Contains("a step is not recorded as a CUDA graph, because cuda.graph is false"));
  CHECK_THAT(said("cublas", {"--set", "cuda.grouped_gemm=cublas", "--set", "train.steps=4"}),
             Contains("because cuda.grouped_gemm: cublas waits"));
  check_same_weights(cuda_run(), "no_graph", 20);
}

TEST_CASE("a recorded step that is not finite is traced to where it first shows") {
  // The rate is far too high, so that the loss overflows after a few steps.
  const Outcome outcome =
      emulated(training("overflow", plus(on_cuda, {"--set", "optimizer.lr=1e18", "--set", "optimizer.clip_norm=0"})));
  INFO(outcome.out << outcome.err);
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.out + outcome.err, Contains("a step is recorded as a CUDA graph"));
  CHECK_THAT(outcome.err, Contains("first non-finite tensor: ") && !Contains("none found"));
}

TEST_CASE("bf16 trains on cuda") {
  const std::vector<std::string> bf16 = {"--set", "run.precision=bf16"};
  train("cpu_bf16", bf16);
  train("cuda_bf16", plus(on_cuda, bf16));
  const json cpu = workspace().log("cpu_bf16").back(), cuda = workspace().log("cuda_bf16").back();
  CHECK(cuda["ce"].get<double>() == Approx(cpu["ce"].get<double>()).epsilon(0.03));
}

TEST_CASE("a run saved on one device goes on on the other") {
  train("cuda_to_cuda", plus(on_cuda, {"--set", "train.steps=10"}));
  train("cuda_to_cuda", on_cuda);
  check_same_weights(cuda_run(), "cuda_to_cuda", 20);

  train("cuda_to_cpu", plus(on_cuda, {"--set", "train.steps=10"}));
  train("cuda_to_cpu", {});
  train("cpu_to_cuda", {"--set", "train.steps=10"});
  train("cpu_to_cuda", on_cuda);
  for (const char* name : {"cuda_to_cpu", "cpu_to_cuda"}) check_same_curve(cpu_run(), name, 11);
}

#ifdef STRAND_MPIRUN
TEST_CASE("two ranks, a GPU each, with the experts spread over them, take the CPU's steps") {
  const auto train_two = [](const std::string& name, const std::vector<std::string>& more) {
    const std::vector<std::string> launch = {"/usr/bin/env",
                                             "OMPI_ALLOW_RUN_AS_ROOT=1",
                                             "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                             STRAND_MPIRUN,
                                             "--oversubscribe",
                                             "--bind-to",
                                             "none",
                                             "-n",
                                             "2",
                                             program};
    const std::vector<std::string> all = plus(more, {"--set", "parallel.expert_parallel=2", "--set", "run.threads=1"});
    const Outcome outcome = run_program(plus(launch, training(name, all)), workspace().root());
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
  };
  train_two("two_cpu", {});
  train_two("two_cuda", on_cuda);
  train_two("two_cuda_in_order", plus(on_cuda, {"--set", "parallel.deterministic=true"}));
  check_same_curve("two_cpu", "two_cuda", 0);
  check_same_curve("two_cpu", "two_cuda_in_order", 0);
}
#endif

TEST_CASE("analyse sees on cuda what it sees on the CPU") {
  const std::string run = (workspace().run(cuda_run())).string();
  const auto seen_on = [&](const std::string& device) {
    const Outcome outcome = emulated({"analyse", run, "--data", "text=val", "--tokens", "64", "--redundancy", "--out",
                                      "seen_on_" + device, "--json", "--device", device});
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    return json::parse(outcome.out).at("models").at(0);
  };
  const json cuda = seen_on("cuda"), cpu = seen_on("cpu");
  CHECK(cuda["load"]["counts"] == cpu["load"]["counts"]);  // no two experts are equal to fp32 rounding for these tokens
  CHECK(cuda["lookahead"]["top_k"] == cpu["lookahead"]["top_k"]);
  CHECK(cuda["vocabulary"]["predicted"] == cpu["vocabulary"]["predicted"]);
  const auto near = [&](const json::json_pointer& place) {
    INFO(place.to_string());
    CHECK(cuda.at(place).get<double>() == Approx(cpu.at(place).get<double>()).epsilon(1e-4));
  };
  for (const char* place :
       {"/terms/ce", "/overlap/z/mean_squared_cosine/0", "/overlap/y/mean_squared_cosine/1", "/geometry/input_cosine/0",
        "/weights/max_absolute_cosine/0", "/sharpness/token_entropy/1", "/redundancy/1/ce"})
    near(json::json_pointer(place));
}

TEST_CASE("eval and generate run on cuda as on the CPU") {
  const std::string run = (workspace().run(cuda_run())).string();
  const auto loss_on = [&](const std::string& device) {
    const Outcome outcome = emulated({"eval", run, "--data", "val", "--json", "--device", device});
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    return json::parse(outcome.out).at("ce").get<double>();
  };
  CHECK(loss_on("cuda") == Approx(loss_on("cpu")).epsilon(1e-5));
  const std::vector<std::string> greedy = {"generate",      run, "--prompt",     "The old captain",
                                           "--temperature", "0", "--max-tokens", "12"};
  const Outcome here = emulated(greedy), there = emulated(plus(greedy, {"--device", "cpu"}));
  INFO(here.err << there.err);
  CHECK(there.status == 0);
  CHECK(here.out == there.out);
}

TEST_CASE("a GPU that fails ends the run with one line that says where, and the last checkpoint is whole") {
  // Two layers and two micro-steps are four launches a step, and the checks before the checkpoints of steps 3 and 6
  // make two more each: the 35th is in step 8, in the backward pass of its second micro-step, where the upper layer
  // comes first. The checkpoint of step 3 is on the disk since that of step 6 was begun, which may still be on its way.
  for (const bool graph : {true, false}) {
    const std::string fault = graph ? "illegal_address" : "ecc", name = "failed_" + fault;
    const Outcome outcome = emulated(training(name, plus(on_cuda, {"--set", "train.checkpoint_every=3", "--set",
                                                                   graph ? "cuda.graph=true" : "cuda.graph=false"})),
                                     {"GPU_EMULATION_FAULT=router_backward_kernel:35:" + fault});
    INFO(outcome.err);
    CHECK(outcome.status == 1);
    CHECK_THAT(outcome.err, Contains(graph ? "cudaErrorIllegalAddress" : "cudaErrorECCUncorrectable"));
    CHECK_THAT(outcome.err, Contains("step 8, router (backward) of layer 1: "));
    CHECK_THAT(outcome.err, Contains("RouterBackward") && !Contains("AttentionBackward"));
    CHECK_THAT(outcome.err,
               Contains("the checkpoint of step 3 is intact") || Contains("the checkpoint of step 6 is intact"));
    train(name, on_cuda);
    check_same_weights(cuda_run(), name, 20);
  }
}

TEST_CASE("without a usable GPU, device: cuda ends with one line and device: cpu works") {
  const std::string file = STRAND_SOURCE_DIR "/tests/data/ce_only.safetensors";
  const auto verify = [&](const std::string& device) {
    return run_program({"/usr/bin/env", "CUDA_VISIBLE_DEVICES=", strand_program(), "verify", "--device", device, file});
  };
  const Outcome cuda = verify("cuda");
  INFO(cuda.err);
  CHECK(cuda.status == 1);
  CHECK_THAT(cuda.err, Contains("no GPU can be used") || Contains("was built without it"));
  CHECK(verify("cpu").status == 0);
}
