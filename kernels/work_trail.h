#pragma once
// What has been enqueued on a device that works while the host goes on. A fault of such a device shows at whatever call
// comes next, long after the operation that made it was enqueued; the trail tells where the device had come to.
#include <cstdint>

namespace strand {

class WorkTrail {
 public:
  virtual ~WorkTrail() = default;
  /// What is enqueued from now on belongs to optimizer step `number`, from 0.
  virtual void step(int64_t number) = 0;
  /// It belongs to this part of a step, of layer `layer` (below 0: of none). The text lives as long as the program. The
  /// device itself notes when it comes here, on the compute stream: about a microsecond.
  virtual void part(const char* what, int64_t layer) = 0;
  /// This operation is enqueued next. The text lives as long as the program.
  virtual void operation(const char* name) = 0;
};

}  // namespace strand
