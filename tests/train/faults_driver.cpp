// A training run with a fault: faults_driver CONFIG FAULT [RESUME [weights-only | accept-data-change]]. For tests that
// let it be killed. Exit codes are those of `strand train`.
#include <cstdio>
#include <exception>
#include <string>

#include "config/schema.h"
#include "fault_layer.h"
#include "model/backend.h"
#include "train/trainer.h"

int main(int argc, char** argv) {
  using namespace strand;
  try {
    require(argc >= 3, "faults_driver CONFIG FAULT [RESUME [weights-only | accept-data-change]]");
    test::FaultLayer layer(argv[2]);
    const InterposedFileLayer interposed(layer);
    const Config config = load_config(argv[1]);
    const std::string how = argc > 4 ? argv[4] : "";
    const ResumeChoice resume{.text = argc > 3 ? argv[3] : "auto",
                              .weights_only = how == "weights-only",
                              .accept_data_change = how == "accept-data-change"};
    const std::unique_ptr<Device> ops_device = make_device(config.run);
    const std::unique_ptr<Ops> ops = ops_device->make_ops();
    ProcessGrid self;
    Trainer(config, resume, *ops, self).run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
