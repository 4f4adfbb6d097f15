// Reads arbitrary text as manifest.json, in a directory that holds one other file.
#include "checkpoint/manifest.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  static const std::string path = [] {
    fuzz::put(fuzz::directory() + "/state.json", "{}");
    return fuzz::directory() + "/manifest.json";
  }();
  fuzz::put(path, fuzz::text_of(data, size));
  return fuzz::attempt([&] {
    for (const auto& [name, digest] : read_manifest(fuzz::directory()))
      fuzz::claim(name.find('/') == name.npos && name != "." && name != "..", "names stay in the directory");
    verify_manifest(fuzz::directory());
  });
}
