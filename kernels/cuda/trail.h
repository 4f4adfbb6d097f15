#pragma once
// The trail of a GPU. Each part of a step begins with a kernel of one thread that writes the number of the part into
// pinned memory, which can still be read when the GPU has failed. So a fault is known to lie in the part that was begun
// last, and the operations of that part are known by name.
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/work_trail.h"

namespace strand {

class CudaDevice;

class CudaTrail final : public WorkTrail {
 public:
  /// Allocates pinned memory. Only one device at a time can be asked where it is: the one whose trail was made last.
  explicit CudaTrail(CudaDevice& device);
  ~CudaTrail() override;
  CudaTrail(const CudaTrail&) = delete;
  CudaTrail& operator=(const CudaTrail&) = delete;

  void step(int64_t number) override;
  void part(const char* what, int64_t layer) override;
  void operation(const char* name) override;

  /// Parts and their operations, in the order in which they were enqueued.
  struct Log;
  /// What is enqueued from now on is launched again and again, as a recording that keeps this log.
  std::shared_ptr<Log> begin_recording();
  void end_recording();

  /// " (step 3, backward pass of attention, layer 1: RmsNormBackward, Linear or Attention)": where the GPU is, or where
  /// the host is; "" where nothing is known.
  static std::string where_device_is();
  static std::string where_host_is();

 private:
  /// What the device writes into pinned memory.
  struct Notes {
    uint64_t part;  ///< number of the log, and place in it
    int64_t step;
  };

  void note(uint64_t* where, uint64_t value);
  void next_log();
  const Log* find(uint64_t number) const;

  CudaDevice& device_;
  Notes* notes_ = nullptr;                  ///< pinned
  std::vector<std::shared_ptr<Log>> logs_;  ///< a ring, of what is enqueued once
  std::vector<std::weak_ptr<Log>> recorded_;
  std::shared_ptr<Log> current_;
  uint64_t numbers_ = 0;  ///< of logs
  int64_t step_ = -1;     ///< that the host is in
};

}  // namespace strand
