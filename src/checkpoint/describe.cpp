#include "checkpoint/describe.h"

#include <algorithm>
#include <map>

#include "checkpoint/checkpoint.h"
#include "core/error.h"

namespace strand {

namespace {
std::string size_text(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 10'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

struct Totals {
  uint64_t tensors = 0;
  uint64_t elements = 0;
  uint64_t bytes = 0;
};

std::string totals_text(const std::map<std::string, Totals>& by_type) {
  std::string text;
  for (const auto& [dtype, t] : by_type) {
    text += fmt::format("  {}: {} tensors, {} elements, {}\n", dtype, t.tensors, t.elements, size_text(t.bytes));
  }
  return text;
}

void count(std::map<std::string, Totals>& by_type, const TensorEntry& entry) {
  Totals& totals = by_type[entry.dtype];
  ++totals.tensors;
  totals.elements += tensor_bytes(entry.shape, 8).value_or(0);
  totals.bytes += entry.bytes();
}

std::string describe_source(const std::string& title, const TensorSource& source) {
  std::map<std::string, Totals> by_type;
  for (const auto& [name, item] : source.items()) count(by_type, *item.entry);
  return fmt::format("{} ({} file{})\n", title, source.files().size(), source.files().size() == 1 ? "" : "s") +
         totals_text(by_type);
}

std::string describe_state(const RunState& state) {
  std::string text = fmt::format("step {}, next sample {}, schedule at {}, {} tokens, seed {}\n", state.step,
                                 state.next_sample, state.schedule_step, state.tokens, state.seed);
  for (const auto& [name, version] : state.versions) text += fmt::format("  {}: {}\n", name, version);
  return text;
}

std::string describe_files(const Manifest& files) {
  std::string text = "files\n";
  for (const auto& [name, digest] : files) {
    text += fmt::format("  {:<40} {:>12}  xxh3 {}\n", name, size_text(digest.bytes), digest.xxh3);
  }
  return text;
}
}  // namespace

std::string describe_safetensors(const std::string& path) {
  const SafetensorsFile file(path);
  std::string text = fmt::format("{}: safetensors\n", path);
  for (const auto& [key, value] : file.metadata()) text += fmt::format("  metadata {}: {}\n", key, value);
  size_t width = 0;
  for (const TensorEntry& entry : file.tensors()) width = std::max(width, entry.name.size());
  std::map<std::string, Totals> by_type;
  for (const TensorEntry& entry : file.tensors()) {
    count(by_type, entry);
    text += fmt::format("  {:<{}}  {:<5} {:<20} {:>12}\n", entry.name, width, entry.dtype, shape_text(entry.shape),
                        size_text(entry.bytes()));
  }
  return text + "in all\n" + totals_text(by_type);
}

std::string describe_checkpoint(const std::string& path) {
  std::string text = fmt::format("{}: checkpoint\n", path);
  try {
    text += describe_files(read_manifest(path));
    const Checkpoint checkpoint(path);
    text += describe_state(checkpoint.state()) + describe_source("model", checkpoint.model());
    if (checkpoint.has_optimizer()) text += describe_source("optimizer", checkpoint.optimizer());
    text += fmt::format("tokenizer: {}\n", checkpoint.tokenizer().empty() ? "none" : checkpoint.tokenizer_path());
    return text + "complete and undamaged\n";
  } catch (const Error& e) {
    return text + fmt::format("DAMAGED: {}\n", e.what());
  }
}

}  // namespace strand
