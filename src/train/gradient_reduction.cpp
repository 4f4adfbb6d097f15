#include "train/gradient_reduction.h"

namespace strand {

GradientReduction::GradientReduction(Session& session)
    : session_(session),
      travel_(session.config().parallel.gradient_type == GradientType::bf16 ? DType::bf16 : session.parameters().acc()),
      works_(session.parameters().buckets().size()) {}

void GradientReduction::layer_done(int64_t layer) {
  const std::vector<Bucket>& buckets = session_.parameters().buckets();
  for (; begun_ < buckets.size() && buckets[begun_].complete_after >= layer; ++begun_) {
    const Bucket& b = buckets[begun_];
    works_[begun_] = b.group(session_.grid()).begin_reduce_scatter_sum(Traffic::gradients, b.gradients, travel_);
  }
}

void GradientReduction::finish() {
  constexpr int64_t last = -1;  // the embedding
  layer_done(last);
  session_.grid().progress().now("the reduction of gradients", -1);
  for (size_t i = 0; i < works_.size(); ++i) session_.parameters().buckets()[i].group(session_.grid()).wait(works_[i]);
  begun_ = 0;
}

}  // namespace strand
