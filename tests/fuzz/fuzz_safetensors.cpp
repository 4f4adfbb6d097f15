// Reads arbitrary bytes as a safetensors file.
#include "checkpoint/safetensors_header.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  return fuzz::attempt([&] {
    SafetensorsHeader header = parse_safetensors_header({reinterpret_cast<const std::byte*>(data), size}, size, "file");
    uint64_t position = 0;
    for (const TensorEntry& entry : header.tensors) {
      fuzz::claim(entry.begin == position && entry.end >= entry.begin, "tensors cover the data in order");
      position = entry.end;
    }
    fuzz::claim(header.data_start + position == size, "tensors end with the file");
    // What was read can be written, and read again.
    std::vector<TensorEntry> tensors = header.tensors;
    const std::string first = layout_safetensors(tensors, header.metadata, "copy");
    const SafetensorsHeader again =
        parse_safetensors_header(std::as_bytes(std::span(first)), first.size() + position, "copy");
    fuzz::claim(again.tensors.size() == header.tensors.size() && again.metadata == header.metadata,
                "a header survives being written");
  });
}
