// A snapshot for a checkpoint on an emulated GPU: the copies run beside the next step, the host waits for none of them,
// and no update overwrites what was not copied yet.
#include <cstring>

#include "gpu_emulation/control.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/catch.h"
#include "tests/model/harness.h"
#include "train/model_state.h"
#include "train/snapshot.h"

namespace strand::test {
namespace {

using Bytes = std::vector<std::byte>;

std::map<std::string, Bytes> bytes_of(const std::vector<NamedTensor>& tensors) {
  std::map<std::string, Bytes> all;
  for (const NamedTensor& tensor : tensors) {
    size_t bytes = size_of(tensor.dtype);
    for (const int64_t dim : tensor.shape) bytes *= static_cast<size_t>(dim);
    tensor.read(all.emplace(tensor.name, Bytes(bytes)).first->second.data(), 0, bytes);
  }
  return all;
}

void step(TestModel& model, const Config& config, int64_t index) {
  const StepData data = random_batch(config, 2, 4, static_cast<uint64_t>(index));
  model.runner.step(data, whole_objective(config), index, {.optimizer = config.optimizer, .learning_rate = 0.1});
}

TEST_CASE("A snapshot has the bytes of before the next update, which runs while it is copied") {
  for (const bool graph : {true, false}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      INFO((graph ? "recorded" : "not recorded") << ", seed " << seed);
      gpu_emulation::set_order(gpu_emulation::Order::random, seed);
      Config config = tiny_config(Precision::bf16);
      config.run.device = DeviceKind::cuda;
      config.moe.bias_rate = 0.01;
      config.train.global_batch_size = config.train.micro_batch_size = 2;
      config.cuda.graph = graph;
      CudaDevice device({});
      const std::unique_ptr<Ops> ops = device.make_ops();
      TestModel model(*ops, config, 2, 4);
      model.randomize(3);
      Snapshot snapshot(model.session);
      for (int64_t i = 0; i < 3; ++i) {
        step(model, config, i);
        model.runner.take_result();
      }
      // Read with waiting for each tensor, by the way of a checkpoint that is written in the foreground.
      const auto weights = bytes_of(model_tensors(model.session)), moments = bytes_of(optimizer_tensors(model.session));

      const gpu_emulation::Counters before = gpu_emulation::counters();
      snapshot.take();
      step(model, config, 3);
      const gpu_emulation::Counters after = gpu_emulation::counters();
      CHECK(after.synchronizations == before.synchronizations);
      CHECK(after.allocations == before.allocations);
      CHECK_FALSE(model.runner.replayed());  // the update waits for the copy, which no recording can

      CHECK(model.runner.take_result().applied);  // so the update is over
      snapshot.wait();
      CHECK(bytes_of(snapshot.model()) == weights);
      CHECK(bytes_of(snapshot.optimizer()) == moments);
      CHECK(bytes_of(model_tensors(model.session)) != weights);
      step(model, config, 4);
      CHECK(model.runner.replayed() == graph);
      model.runner.take_result();
      std::string reports;
      for (const gpu_emulation::Report& report : gpu_emulation::take_reports()) reports += report.kind + report.text;
      CHECK(reports == "");
    }
  }
}

}  // namespace
}  // namespace strand::test
