#pragma once
// The collectives that training needs, on device tensors, in program order with the operations of the backend.
// Only this class knows whether there are other processes; SelfCommunicator is the one-process case and does nothing.
#include "core/tensor.h"

namespace strand {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// x = Σ over ranks of x, the same bits on every rank. x is f32 or f64.
  virtual void all_reduce_sum(const Tensor& x) = 0;
  /// The sum over ranks of a host number.
  virtual int64_t all_reduce_sum(int64_t x) = 0;
};

class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce_sum(const Tensor&) override {}
  int64_t all_reduce_sum(int64_t x) override { return x; }
};

}  // namespace strand
