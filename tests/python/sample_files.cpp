// Writes files for the Python checks to read:
//   sample_files rewrite IN OUT   reads a safetensors file and writes its tensors again
//   sample_files shards IN DIR    the same as shards of at most 100 bytes, under the stem "model"
//   sample_files events DIR       two event files, the second of a run resumed at step 6
#include <cstdio>
#include <cstring>
#include <string>

#include "checkpoint/tensor_source.h"
#include "core/error.h"
#include "train/event_file.h"

using namespace strand;

namespace {
std::vector<NamedTensor> tensors_of(const SafetensorsFile& file) {
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : file.tensors()) {
    NamedTensor& tensor = tensors.emplace_back();
    require(entry.type.has_value(), "{} cannot be written again: {}", entry.name, entry.dtype);
    tensor.name = entry.name;
    tensor.dtype = *entry.type;
    tensor.shape = entry.shape;
    tensor.read = [bytes = file.bytes(entry)](void* host, size_t offset, size_t count) {
      std::memcpy(host, bytes.data() + offset, count);
    };
  }
  return tensors;
}

void write_events(const std::string& directory) {
  EventFile first(directory, 0);
  for (int step = 0; step < 10; ++step) first.scalar("loss/ce", step, 10.0 - step);
  first.flush();
  EventFile resumed(directory, 6);
  for (int step = 6; step < 8; ++step) resumed.scalar("loss/ce", step, 100.0 + step);
}
}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "rewrite" && argc == 4) {
      const SafetensorsFile file(argv[2]);
      write_safetensors(argv[3], tensors_of(file));
    } else if (what == "shards" && argc == 4) {
      const SafetensorsFile file(argv[2]);
      write_sharded(argv[3], "model", tensors_of(file), 100);
    } else if (what == "events" && argc == 3) {
      write_events(argv[2]);
    } else {
      std::fputs("usage: sample_files rewrite IN OUT | shards IN DIR | events DIR\n", stderr);
      return 2;
    }
  } catch (const Error& e) {
    std::fprintf(stderr, "sample_files: %s\n", e.what());
    return 1;
  }
  return 0;
}
