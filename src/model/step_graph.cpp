#include "model/step_graph.h"

namespace strand {

std::string no_step_graph_because(const Config& config, const GridShape& grid) {
  if (config.run.device != DeviceKind::cuda) return "run.device is not cuda";
  if (!config.cuda.graph) return "cuda.graph is false";
  if (config.cuda.grouped_gemm == GroupedGemmChoice::cublas) return "cuda.grouped_gemm: cublas waits in each step";
  if (grid.ranks > 1) return "several processes exchange messages in it";
  return "";
}

}  // namespace strand
