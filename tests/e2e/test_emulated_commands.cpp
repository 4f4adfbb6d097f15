// Commands on an emulated GPU (tests/gpu_emulation) beside training: what they give is what they give on the CPU.
#include <fstream>
#include <map>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
const std::string program = STRAND_BINARY_DIR "/strand_emulated";

Outcome emulated(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program(words, workspace().root());
}

Outcome succeeded(const Outcome& outcome) {
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  return outcome;
}

/// Four steps on the emulated GPU.
const std::string& run_on_cuda() {
  static const std::string name = [] {
    succeeded(emulated(workspace().train(
        "on_cuda", {"--set", "run.device=cuda", "--set", "train.steps=4", "--set", "train.global_batch_size=2", "--set",
                    "train.micro_batch_size=2", "--set", "train.eval_every=0"})));
    return "on_cuda";
  }();
  return name;
}
}  // namespace

// Seconds are the emulation's and mean nothing. What the steps consist of is the same on every device.
TEST_CASE("bench on cuda times the operations that bench on the CPU times") {
  const auto bench = [](const std::string& device) {
    const std::string file = "bench_" + device + ".json";
    const Outcome outcome =
        succeeded(emulated({"bench", "tiny.yaml", "--set", "model.vocab_size=320", "--set", "run.device=" + device,
                            "--set", "train.global_batch_size=2", "--set", "train.micro_batch_size=2", "--steps", "2",
                            "--warmup", "1", "--profiled", "1", "--json", file}));
    CHECK_THAT(outcome.out, Contains("tokens a second"));
    return json::parse(bytes_of(workspace().root() / file));
  };
  const json cpu = bench("cpu"), cuda = bench("cuda");
  CHECK(cuda["workload"]["run.device"] == "cuda");
  CHECK(cuda["step_seconds"].size() == 2);
  for (const char* key : {"parameters", "active_parameters", "training_flops_per_token", "tokens_per_step"})
    CHECK(cuda[key] == cpu[key]);
  const auto work = [](const json& result) {
    std::map<std::string, std::vector<double>> of_family;
    for (const json& family : result["profile"]["families"])
      of_family[family["name"]] = {family["calls"], family["flops"]};
    return of_family;
  };
  CHECK(work(cuda).size() > 8);
  // A GPU copies numbers to the host by itself, which the CPU does not count.
  const auto on_cpu = work(cpu), on_cuda = work(cuda);
  for (const auto& [family, counts] : on_cpu) {
    if (family == "other") continue;
    INFO(family);
    REQUIRE(on_cuda.count(family) == 1);
    CHECK(on_cuda.at(family) == counts);
  }
}

TEST_CASE("a run on cuda is exported by any program, and computes the same on either device") {
  // export computes nothing, so it needs no device; the program without an emulated GPU reads what was saved.
  const std::string run = workspace().run(run_on_cuda()).string();
  const std::filesystem::path by_cuda = workspace().root() / "hf_cuda", by_cpu = workspace().root() / "hf_cpu";
  succeeded(emulated({"export", run, "--out", by_cuda.string()}));
  succeeded(workspace().strand({"export", run, "--out", by_cpu.string()}));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(by_cpu)) {
    INFO(entry.path().filename());
    ++files;
    CHECK(bytes_of(entry.path()) == bytes_of(by_cuda / entry.path().filename()));
  }
  CHECK(files >= 3);

  const auto loss = [](const std::vector<std::string>& what) {
    std::vector<std::string> words = {"eval"};
    words.insert(words.end(), what.begin(), what.end());
    words.insert(words.end(), {"--data", "val", "--json"});
    return json::parse(succeeded(emulated(words)).out).at("ce").get<double>();
  };
  const double trained = loss({run, "--device", "cuda"});
  CHECK(loss({run, "--device", "cpu"}) == Approx(trained).epsilon(1e-5));
  CHECK(loss({run, "--device", "cuda", "--precision", "bf16"}) == Approx(trained).epsilon(0.02));
}

TEST_CASE("generate on cuda draws the tokens that it draws on the CPU") {
  const std::string run = workspace().run(run_on_cuda()).string();
  const auto text = [&](const std::string& device, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"generate", run,    "--prompt",     "A small bird",
                                      "--device", device, "--max-tokens", "10"};
    words.insert(words.end(), more.begin(), more.end());
    return succeeded(emulated(words)).out;
  };
  for (const std::vector<std::string>& how :
       {std::vector<std::string>{"--temperature", "0"}, {"--temperature", "0.8", "--top-p", "0.9", "--seed", "3"}})
    CHECK(text("cuda", how) == text("cpu", how));
}
