#include "analysis/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "core/error.h"
#include "core/random.h"

namespace strand {

namespace {
float squared_distance(const float* a, const float* b, int64_t width) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

void add_centre(std::vector<float>& centres, const Points& points, int64_t point) {
  centres.insert(centres.end(), points[point], points[point] + points.width);
}

/// The first point at which the running sum of `weights` passes `share` of their sum.
int64_t draw(const std::vector<double>& weights, double share) {
  double total = 0, sum = 0;
  for (const double w : weights) total += w;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum > share * total) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(share * static_cast<double>(weights.size()));  // all points lie on centres
}

/// k-means++: each new centre is a point, drawn in proportion to its squared distance from the nearest one.
std::vector<float> first_centres(const Points& points, int64_t clusters, uint64_t key) {
  const int64_t count = points.count();
  std::vector<float> centres;
  centres.reserve(static_cast<size_t>(clusters * points.width));
  add_centre(centres, points, static_cast<int64_t>(random_uniform(key, 0) * static_cast<double>(count)));
  std::vector<double> nearest(static_cast<size_t>(count), std::numeric_limits<double>::infinity());
  for (int64_t c = 1; c < clusters; ++c) {
    const float* newest = centres.data() + (c - 1) * points.width;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      double& d = nearest[static_cast<size_t>(i)];
      d = std::min(d, static_cast<double>(squared_distance(points[i], newest, points.width)));
    }
    add_centre(centres, points, draw(nearest, random_uniform(key, static_cast<uint64_t>(c))));
  }
  return centres;
}

/// Lloyd's iterations from given centres.
class Lloyd {
 public:
  Lloyd(const Points& points, std::vector<float> centres)
      : points_(points),
        clusters_(static_cast<int64_t>(centres.size()) / points.width),
        distance_(static_cast<size_t>(points.count())) {
    result_.centres = std::move(centres);
    result_.cluster_of.resize(distance_.size());
    assign();
  }

  Clustering run(const KMeansOptions& options) {
    for (int i = 0; i < options.max_iterations; ++i) {
      const double before = result_.inertia;
      move_centres();
      assign();
      if (before - result_.inertia <= options.tolerance * before) break;
    }
    return std::move(result_);
  }

 private:
  void assign() {
    const int64_t count = points_.count(), width = points_.width;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) {
      float best = std::numeric_limits<float>::infinity();
      int32_t cluster = 0;
      for (int64_t c = 0; c < clusters_; ++c) {
        const float d = squared_distance(points_[i], result_.centres.data() + c * width, width);
        if (d < best) {
          best = d;
          cluster = static_cast<int32_t>(c);
        }
      }
      distance_[static_cast<size_t>(i)] = best;
      result_.cluster_of[static_cast<size_t>(i)] = cluster;
    }
    result_.inertia = 0;
    for (const float d : distance_) result_.inertia += d;
  }

  void move_centres() {
    const auto width = static_cast<size_t>(points_.width);
    std::vector<double> sums(static_cast<size_t>(clusters_) * width);
    std::vector<int64_t> sizes(static_cast<size_t>(clusters_));
    for (size_t i = 0; i < result_.cluster_of.size(); ++i) {
      const auto c = static_cast<size_t>(result_.cluster_of[i]);
      const float* point = points_[static_cast<int64_t>(i)];
      ++sizes[c];
      for (size_t j = 0; j < width; ++j) sums[c * width + j] += static_cast<double>(point[j]);
    }
    for (size_t c = 0; c < sizes.size(); ++c) {
      float* centre = result_.centres.data() + c * width;
      if (sizes[c] == 0) {
        take_farthest(centre);
        continue;
      }
      for (size_t j = 0; j < width; ++j)
        centre[j] = static_cast<float>(sums[c * width + j] / static_cast<double>(sizes[c]));
    }
  }

  /// An emptied cluster goes to the point that is farthest from its centre; the point then counts as reached.
  void take_farthest(float* centre) {
    const auto farthest = std::max_element(distance_.begin(), distance_.end());
    std::copy_n(points_[farthest - distance_.begin()], points_.width, centre);
    *farthest = 0;
  }

  const Points& points_;
  int64_t clusters_;
  std::vector<float> distance_;  ///< squared, to the own centre
  Clustering result_;
};
}  // namespace

void scale_to_unit_length(Points& points) {
  const auto width = static_cast<size_t>(points.width);
  for (size_t begin = 0; begin < points.values.size(); begin += width) {
    double sum = 0;
    for (size_t i = begin; i < begin + width; ++i) {
      const auto x = static_cast<double>(points.values[i]);
      sum += x * x;
    }
    if (sum == 0) continue;
    for (size_t i = begin; i < begin + width; ++i)
      points.values[i] = static_cast<float>(static_cast<double>(points.values[i]) / std::sqrt(sum));
  }
}

Clustering k_means(const Points& points, int64_t clusters, const KMeansOptions& options) {
  require(clusters >= 1 && points.count() >= clusters, "{} clusters of {} points", clusters, points.count());
  Clustering best;
  for (int start = 0; start < options.starts; ++start) {
    const uint64_t key = hash_key(options.seed, "k-means start " + std::to_string(start));
    Clustering found = Lloyd(points, first_centres(points, clusters, key)).run(options);
    if (start == 0 || found.inertia < best.inertia) best = std::move(found);
  }
  return best;
}

std::vector<int32_t> balanced_clusters(const Points& points, const std::vector<float>& centres) {
  const int64_t count = points.count(), clusters = static_cast<int64_t>(centres.size()) / points.width;
  require(count % clusters == 0, "{} points do not divide over {} clusters", count, clusters);
  struct Pair {
    float distance;
    int32_t point, cluster;
  };
  std::vector<Pair> pairs(static_cast<size_t>(count * clusters));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i)
    for (int64_t c = 0; c < clusters; ++c)
      pairs[static_cast<size_t>(i * clusters + c)] = {
          squared_distance(points[i], centres.data() + c * points.width, points.width), static_cast<int32_t>(i),
          static_cast<int32_t>(c)};
  std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) {
    return std::tie(a.distance, a.point, a.cluster) < std::tie(b.distance, b.point, b.cluster);
  });
  std::vector<int32_t> cluster_of(static_cast<size_t>(count), -1);
  std::vector<int64_t> size(static_cast<size_t>(clusters));
  for (const Pair& pair : pairs) {
    int32_t& cluster = cluster_of[static_cast<size_t>(pair.point)];
    if (cluster >= 0 || size[static_cast<size_t>(pair.cluster)] == count / clusters) continue;
    cluster = pair.cluster;
    ++size[static_cast<size_t>(pair.cluster)];
  }
  return cluster_of;
}

}  // namespace strand
