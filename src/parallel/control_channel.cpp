#include "parallel/control_channel.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace strand {

void ControlChannel::gather(const void* mine, size_t bytes, void* all) {
  const double seconds = gather_bytes(mine, bytes, all);
  const int64_t others = size_ - 1;
  traffic_ += {.calls = 1,
               .messages = others,
               .payload_bytes = static_cast<double>(bytes),
               .sent_bytes = static_cast<double>(bytes) * static_cast<double>(others),
               .busy_seconds = seconds,
               .exposed_seconds = seconds};
}

template <typename T>
std::vector<T> ControlChannel::gather_numbers(T mine) {
  std::vector<T> all(static_cast<size_t>(size_), mine);
  if (size_ > 1) gather(&mine, sizeof(T), all.data());
  return all;
}

std::vector<int64_t> ControlChannel::all_gather(int64_t mine) {
  return gather_numbers(mine);
}

std::vector<double> ControlChannel::all_gather(double mine) {
  return gather_numbers(mine);
}

std::vector<std::string> ControlChannel::all_gather(const std::string& mine) {
  const std::vector<int64_t> lengths = all_gather(static_cast<int64_t>(mine.size()));
  const auto slot = static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::vector<std::string> texts(lengths.size(), mine);
  if (size_ == 1 || slot == 0) return texts;
  std::string padded = mine, all(slot * lengths.size(), '\0');
  padded.resize(slot);
  gather(padded.data(), slot, all.data());
  for (size_t p = 0; p < texts.size(); ++p) texts[p] = all.substr(p * slot, static_cast<size_t>(lengths[p]));
  return texts;
}

int64_t ControlChannel::all_reduce_sum(int64_t mine) {
  const std::vector<int64_t> all = all_gather(mine);
  return std::accumulate(all.begin(), all.end(), int64_t{0});
}

int64_t ControlChannel::all_reduce_max(int64_t mine) {
  const std::vector<int64_t> all = all_gather(mine);
  return *std::max_element(all.begin(), all.end());
}

void ControlChannel::barrier() {
  all_gather(int64_t{0});
}

double CountingControl::gather_bytes(const void* mine, size_t bytes, void* all) {
  for (int p = 0; p < size(); ++p) std::memcpy(static_cast<char*>(all) + static_cast<size_t>(p) * bytes, mine, bytes);
  return 0;
}

}  // namespace strand
