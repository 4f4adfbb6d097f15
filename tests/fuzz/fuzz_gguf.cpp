// Reads arbitrary bytes as a GGUF file.
#include "export/gguf_reader.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strand;
  return fuzz::attempt([&] {
    const gguf::FileDescription file = gguf::parse_gguf({reinterpret_cast<const std::byte*>(data), size}, "file");
    for (const gguf::TensorDescription& tensor : file.tensors) {
      int64_t elements = 1;
      for (const int64_t extent : tensor.shape) elements *= extent;
      fuzz::claim(elements == tensor.elements, "a tensor has as many elements as its shape says");
      fuzz::claim(tensor.bytes.value_or(0) <= size, "the data of a tensor is in the file");
    }
  });
}
