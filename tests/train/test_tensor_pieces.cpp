// What a checkpoint is written from, read in pieces: weights, moments and biases, from the device and from a snapshot.
#include <memory>

#include "model/backend.h"
#include "tests/checkpoint/read_in_pieces.h"
#include "tests/model/harness.h"
#include "train/model_state.h"
#include "train/snapshot.h"

namespace strand::test {
namespace {

TEST_CASE("Tensors of a checkpoint are the same in pieces and at once") {
  const std::unique_ptr<Device> device = make_device({});
  const std::unique_ptr<Ops> ops = device->make_ops();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    Config config = every_part_config(precision);
    TestModel model(*ops, config, 2, 5);
    model.randomize(4);
    model.runner.step(random_batch(config, 2, 5, 31), whole_objective(config), 0,  // for moments that are not 0
                      {.optimizer = config.optimizer, .learning_rate = 1e-2});
    model.runner.take_result();
    check_pieces(model_tensors(model.session));
    check_pieces(optimizer_tensors(model.session));
    Snapshot snapshot(model.session);
    snapshot.take();
    snapshot.wait();
    check_pieces(snapshot.model());
    check_pieces(snapshot.optimizer());
  }
}

}  // namespace
}  // namespace strand::test
