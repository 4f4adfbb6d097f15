// Reads arbitrary text as a configuration.
#include "config/schema.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  return fuzz::attempt([&] {
    const Config config = parse_config(std::string(fuzz::text_of(data, size)), "config.yaml");
    fuzz::claim(parse_config(to_yaml(config), "copy") == config, "a configuration survives being written");
  });
}
