#include "parallel/traffic.h"

namespace strand {

const char* to_string(Traffic kind) {
  constexpr const char* names[traffic_kinds] = {"counts",     "dispatch",  "combine", "specialization",
                                                "statistics", "gradients", "weights", "control"};
  return names[static_cast<size_t>(kind)];
}

TrafficCounts::Kind& TrafficCounts::Kind::operator+=(const Kind& o) {
  calls += o.calls;
  messages += o.messages;
  payload_bytes += o.payload_bytes;
  sent_bytes += o.sent_bytes;
  busy_seconds += o.busy_seconds;
  exposed_seconds += o.exposed_seconds;
  return *this;
}

TrafficCounts::Kind& TrafficCounts::Kind::operator-=(const Kind& o) {
  calls -= o.calls;
  messages -= o.messages;
  payload_bytes -= o.payload_bytes;
  sent_bytes -= o.sent_bytes;
  busy_seconds -= o.busy_seconds;
  exposed_seconds -= o.exposed_seconds;
  return *this;
}

TrafficCounts& TrafficCounts::operator+=(const TrafficCounts& other) {
  for (size_t i = 0; i < kind.size(); ++i) kind[i] += other.kind[i];
  return *this;
}

TrafficCounts& TrafficCounts::operator-=(const TrafficCounts& other) {
  for (size_t i = 0; i < kind.size(); ++i) kind[i] -= other.kind[i];
  return *this;
}

TrafficCounts::Kind TrafficCounts::total() const {
  Kind sum;
  for (const Kind& k : kind) sum += k;
  return sum;
}

}  // namespace strand
