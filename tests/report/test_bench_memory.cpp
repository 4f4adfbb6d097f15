// The memory that `bench` takes is the memory that was planned, on top of what the process held before there was a
// model (the program, its libraries, heap and stacks, as it measures itself). What it takes is the peak of the resident
// memory of a process of its own.
#include <sstream>
#include <string>
#include <vector>

#include "../cli/run_strand.h"
#include "tests/catch.h"

namespace {

struct Memory {
  double program = 0, planned = 0, peak = 0;  ///< bytes
};

Memory run(const std::string& config, std::vector<std::string> settings) {
  settings.insert(settings.begin(),
                  {STRAND_BINARY_DIR "/bench_memory_driver", STRAND_SOURCE_DIR "/configs/" + config, "run.threads=2"});
  const strand::Outcome outcome = strand::run_program(settings);
  INFO(config << "\n" << outcome.err);
  REQUIRE(outcome.status == 0);
  Memory memory;
  std::istringstream(outcome.out) >> memory.program >> memory.planned >> memory.peak;
  REQUIRE(memory.planned > 0);
  return memory;
}

TEST_CASE("The peak of bench's resident memory is within two per cent of the plan") {
  struct Case {
    const char* config;
    std::vector<std::string> settings;
  };
  // bench_small takes 7 GiB and a minute; two of its sixteen layers hold tensors of the same shapes.
  for (const Case& c : {Case{"bench_tiny.yaml", {}}, Case{"bench_small.yaml", {"model.num_layers=2"}}}) {
    for (const std::string precision : {"run.precision=fp32", "run.precision=bf16"}) {
      std::vector<std::string> settings = c.settings;
      settings.push_back(precision);
      const Memory memory = run(c.config, settings);
      INFO(c.config << " " << precision << ": program " << memory.program << ", planned " << memory.planned << ", peak "
                    << memory.peak);
      CHECK(memory.program < 64e6);  // what was taken before the model cannot be the model
      CHECK(memory.peak < 1.02 * (memory.program + memory.planned));
      CHECK(memory.peak > 0.98 * (memory.program + memory.planned));
    }
  }
}

}  // namespace
