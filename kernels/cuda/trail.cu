#include <algorithm>
#include <atomic>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/trail.h"

namespace strand {

using namespace gpu;

namespace {
/// The number is written at once, so that it is there when the next kernel fails.
__global__ void note_kernel(uint64_t* where, uint64_t value) {
  *static_cast<volatile uint64_t*>(where) = value;
  __threadfence_system();
}

constexpr uint64_t bits_of_place = 24;
constexpr size_t most_parts = 4096;  // of a log; evaluations have no steps that would begin another
constexpr size_t logs_kept = 4;      // the host is no more than a step ahead

std::atomic<CudaTrail*> newest{nullptr};

/// "a, b or c": each name once, in the order of the first occurrences.
std::string one_of(const std::vector<const char*>& operations, size_t begin, size_t end) {
  std::vector<std::string> names;
  for (size_t i = begin; i < end; ++i)
    if (std::find(names.begin(), names.end(), operations[i]) == names.end()) names.emplace_back(operations[i]);
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + names[i];
  return text;
}

std::string text_of(int64_t step, const char* part, int64_t layer, const std::string& operations) {
  std::string text = step < 0 ? "" : "step " + std::to_string(step + 1) + ", ";
  text += part;
  if (layer >= 0) text += " of layer " + std::to_string(layer);
  return " (" + text + (operations.empty() ? "" : ": " + operations) + ")";
}
}  // namespace

struct CudaTrail::Log {
  struct Part {
    const char* what;
    int64_t layer;
    size_t first_operation;
  };
  uint64_t number = 0;
  std::vector<Part> parts;
  std::vector<const char*> operations;

  size_t end_of(size_t part) const {
    return part + 1 < parts.size() ? parts[part + 1].first_operation : operations.size();
  }
};

CudaTrail::CudaTrail(CudaDevice& device) : device_(device) {
  notes_ = static_cast<Notes*>(device.allocate(MemoryKind::staging, sizeof(Notes)));
  *notes_ = {.part = 0, .step = -1};
  next_log();
  newest = this;
}

CudaTrail::~CudaTrail() {
  CudaTrail* self = this;
  newest.compare_exchange_strong(self, nullptr);
  device_.deallocate(MemoryKind::staging, notes_);
}

void CudaTrail::note(uint64_t* where, uint64_t value) {
  GPU_LAUNCH(note_kernel, dim3(1), dim3(1), 0, device_.stream(Stream::compute), where, value);
}

void CudaTrail::next_log() {
  if (logs_.size() == logs_kept) {
    std::rotate(logs_.begin(), logs_.begin() + 1, logs_.end());
    logs_.pop_back();
  }
  current_ = logs_.emplace_back(std::make_shared<Log>());
  current_->number = ++numbers_;
}

void CudaTrail::step(int64_t number) {
  step_ = number;
  next_log();
  note(reinterpret_cast<uint64_t*>(&notes_->step), static_cast<uint64_t>(number));
}

void CudaTrail::part(const char* what, int64_t layer) {
  if (current_->parts.size() == most_parts) next_log();
  note(&notes_->part, current_->number << bits_of_place | current_->parts.size());
  current_->parts.push_back({what, layer, current_->operations.size()});
}

void CudaTrail::operation(const char* name) {
  if (!current_->parts.empty()) current_->operations.push_back(name);
}

std::shared_ptr<CudaTrail::Log> CudaTrail::begin_recording() {
  std::erase_if(recorded_, [](const auto& log) { return log.expired(); });
  auto log = std::make_shared<Log>();
  log->number = ++numbers_;
  recorded_.push_back(log);
  return current_ = log;
}

void CudaTrail::end_recording() {
  next_log();
}

const CudaTrail::Log* CudaTrail::find(uint64_t number) const {
  for (const auto& log : logs_)
    if (log->number == number) return log.get();
  for (const auto& log : recorded_)
    if (const auto held = log.lock(); held && held->number == number) return held.get();
  return nullptr;
}

std::string CudaTrail::where_device_is() {
  const CudaTrail* trail = newest;
  if (trail == nullptr) return "";
  const Notes notes{static_cast<volatile Notes*>(trail->notes_)->part,
                    static_cast<volatile Notes*>(trail->notes_)->step};
  const Log* log = trail->find(notes.part >> bits_of_place);
  const size_t part = notes.part & ((uint64_t{1} << bits_of_place) - 1);
  if (log == nullptr || part >= log->parts.size()) return "";
  const Log::Part& found = log->parts[part];
  const size_t end = log->end_of(part);
  std::string operations = one_of(log->operations, found.first_operation, end);
  // Where each launch is waited for (CUDA_LAUNCH_BLOCKING), it is the one that failed.
  const bool goes_on = log == trail->current_.get() && part + 1 == log->parts.size();
  if (goes_on && end > found.first_operation + 1)
    operations += std::string("; last enqueued: ") + log->operations[end - 1];
  return text_of(notes.step, found.what, found.layer, operations);
}

std::string CudaTrail::where_host_is() {
  const CudaTrail* trail = newest;
  if (trail == nullptr || trail->current_->parts.empty()) return "";
  const Log& log = *trail->current_;
  const Log::Part& found = log.parts.back();
  const size_t end = log.operations.size();
  const bool begun = end > found.first_operation;
  return text_of(trail->step_, found.what, found.layer, begun ? log.operations[end - 1] : "");
}

}  // namespace strand
