#pragma once
// k-means of tokens (docs/analysis.md, "Clusters of tokens"): k-means++ (Arthur and Vassilvitskii 2007) and Lloyd's
// iterations. All randomness comes from a counter-based seed, and sums are taken in the order of the points, so the
// result depends on nothing else.
#include <cstdint>
#include <vector>

namespace strand {

/// Points [count, width].
struct Points {
  std::vector<float> values;
  int64_t width = 0;
  int64_t count() const { return static_cast<int64_t>(values.size()) / width; }
  const float* operator[](int64_t i) const { return values.data() + i * width; }
};

/// Divides each point by its length. A point of length 0 stays.
void scale_to_unit_length(Points& points);

struct Clustering {
  std::vector<int32_t> cluster_of;  ///< [count]
  std::vector<float> centres;       ///< [clusters, width]
  double inertia = 0;               ///< sum of squared distances to the centres
};

struct KMeansOptions {
  uint64_t seed = 0;
  int starts = 4;
  int max_iterations = 100;
  double tolerance = 1e-4;  ///< ends when the inertia changes by less than this share of itself
};

/// The best of several starts; the earlier one among equals. At least as many points as clusters.
Clustering k_means(const Points& points, int64_t clusters, const KMeansOptions& options = {});

/// Clusters of count/clusters points each (which divides): all pairs of point and centre by squared distance ascending
/// (ties: the earlier point, then the lower centre), each taken when the point is free and the cluster is not full.
std::vector<int32_t> balanced_clusters(const Points& points, const std::vector<float>& centres);

}  // namespace strand
