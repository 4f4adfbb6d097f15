#include "config/batch.h"

#include "core/error.h"

namespace strand {

int64_t micro_steps_per_rank(const TrainConfig& train, int64_t ranks) {
  const int64_t batch = train.global_batch_size;
  int64_t micro = train.micro_batch_size;
  if (batch % (micro * ranks) == 0) return batch / (micro * ranks);
  while (micro > 1 && batch % (micro * ranks) != 0) --micro;
  fail("train.global_batch_size {} is not a multiple of train.micro_batch_size {} times {} ranks = {}; {}", batch,
       train.micro_batch_size, ranks, train.micro_batch_size * ranks,
       batch % ranks == 0 ? fmt::format("train.micro_batch_size={} would do", micro)
                          : fmt::format("take a batch that {} divides", ranks));
}

}  // namespace strand
