// Reads arbitrary text as state.json.
#include "checkpoint/run_state.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  return fuzz::attempt([&] {
    const RunState state = run_state_from_json(std::string(fuzz::text_of(data, size)), "state.json");
    const std::string text = run_state_to_json(state);
    fuzz::claim(run_state_to_json(run_state_from_json(text, "copy")) == text, "a state survives being written");
  });
}
