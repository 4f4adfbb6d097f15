#pragma once
// What travels between processes, booked by kind: how often, how much, and how long computing waited for it.
#include <array>
#include <cstddef>
#include <cstdint>

namespace strand {

/// What a collective carries.
enum class Traffic : uint8_t {
  counts,          ///< of rows, before an exchange
  dispatch,        ///< rows of tokens to the experts; in backward, of the outputs' gradient
  combine,         ///< rows of outputs back; in backward, of the inputs' gradient
  specialization,  ///< rows of z to their token's rank, and of SP's gradient to the experts
  statistics,      ///< of routing; terms of the objective; the gradient norm
  gradients,
  weights,
  control,  ///< host numbers and text: agreement, set-up, checkpoints
};
constexpr int traffic_kinds = 8;
const char* to_string(Traffic kind);

/// The traffic of one process. *Payload* is what calls were handed: of an all-to-all the rows of this rank's own tokens
/// (sent when they go to the experts, received when they come home), those that stay on the rank included, so that its
/// sum over ranks does not depend on routing; of other collectives the whole tensor.
struct TrafficCounts {
  struct Kind {
    int64_t calls = 0;
    int64_t messages = 0;  ///< to other ranks, by the algorithm that communicator.h states
    double payload_bytes = 0;
    double sent_bytes = 0;       ///< to other ranks, by the same algorithm
    double busy_seconds = 0;     ///< from the start of a collective to its end
    double exposed_seconds = 0;  ///< that computing waited for it

    Kind& operator+=(const Kind& other);
    Kind& operator-=(const Kind& other);
  };
  std::array<Kind, traffic_kinds> kind;

  Kind& operator[](Traffic k) { return kind[static_cast<size_t>(k)]; }
  const Kind& operator[](Traffic k) const { return kind[static_cast<size_t>(k)]; }
  TrafficCounts& operator+=(const TrafficCounts& other);
  TrafficCounts& operator-=(const TrafficCounts& other);
  Kind total() const;
};

}  // namespace strand
