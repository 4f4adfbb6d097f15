// k-means on points whose clusters are known, and its rules compared with plain code.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "analysis/clusters.h"
#include "analysis/kmeans.h"
#include "core/random.h"
#include "tests/catch.h"

using namespace strand;

namespace {
/// `each` points around each of `clusters` far corners; point i belongs to corner i mod clusters.
Points corners(int64_t clusters, int64_t each, int64_t width, double noise) {
  Points points{.width = width};
  for (int64_t i = 0; i < clusters * each; ++i)
    for (int64_t j = 0; j < width; ++j)
      points.values.push_back(static_cast<float>((j == i % clusters ? 10.0 : 0.0) +
                                                 noise * random_normal(3, static_cast<uint64_t>(i * width + j))));
  return points;
}

double distance(const Points& p, int64_t i, const float* centre) {
  double sum = 0;
  for (int64_t j = 0; j < p.width; ++j) sum += std::pow(double(p[i][j]) - double(centre[j]), 2);
  return sum;
}
}  // namespace

TEST_CASE("Clusters that lie apart are found") {
  const Points points = corners(6, 20, 8, 0.5);
  const Clustering found = k_means(points, 6, {.seed = 1});
  for (int64_t i = 0; i < points.count(); ++i)
    CHECK(found.cluster_of[static_cast<size_t>(i)] == found.cluster_of[static_cast<size_t>(i % 6)]);
  std::vector<int32_t> names(found.cluster_of.begin(), found.cluster_of.begin() + 6);
  std::sort(names.begin(), names.end());
  CHECK(std::unique(names.begin(), names.end()) == names.end());
  // 120 points of 8 coordinates with variance 0.25; six means are fitted: 0.25 · 8 · 114 = 228.
  CHECK(found.inertia == Approx(228).epsilon(0.2));
  CHECK(balanced_clusters(points, found.centres) == found.cluster_of);
}

TEST_CASE("What k-means leaves: each point at its nearest centre, the inertia of that, and the same bits again") {
  Points points{.width = 3};
  for (uint64_t i = 0; i < 900; ++i) points.values.push_back(static_cast<float>(random_normal(8, i)));
  const Clustering found = k_means(points, 7, {.seed = 4});
  double inertia = 0;
  for (int64_t i = 0; i < points.count(); ++i) {
    const auto own = static_cast<int64_t>(found.cluster_of[static_cast<size_t>(i)]);
    const double mine = distance(points, i, found.centres.data() + own * 3);
    inertia += mine;
    for (int64_t c = 0; c < 7; ++c) CHECK(mine <= distance(points, i, found.centres.data() + c * 3) + 1e-5);
  }
  CHECK(found.inertia == Approx(inertia).epsilon(1e-5));
  const Clustering again = k_means(points, 7, {.seed = 4});
  CHECK(again.cluster_of == found.cluster_of);
  CHECK(again.centres == found.centres);
  // More starts can only be better.
  CHECK(k_means(points, 7, {.seed = 4, .starts = 8}).inertia <= found.inertia);
}

TEST_CASE("As many clusters as there are different points: nothing is left over") {
  Points points{.values = {0, 0, 5, 5, 0, 0, 9, 1, 5, 5}, .width = 2};
  const Clustering found = k_means(points, 3);
  CHECK(found.inertia == 0);
  CHECK(found.cluster_of[0] == found.cluster_of[2]);
  CHECK(found.cluster_of[1] == found.cluster_of[4]);
  // With more clusters than different points, still no point is far from its centre.
  CHECK(k_means(points, 5).inertia == 0);
}

TEST_CASE("Balancing takes pairs in order of distance") {
  // On a line: centres 0 and 10; points 1, 2, 4, 6. Ascending: 1→0, 2→0 (full), then 6→10, 4→10.
  const Points points{.values = {4, 1, 6, 2}, .width = 1};
  CHECK(balanced_clusters(points, {0, 10}) == std::vector<int32_t>{1, 0, 1, 0});
  // Equal distances: the earlier point first, then the lower centre.
  const Points middle{.values = {5, 5}, .width = 1};
  CHECK(balanced_clusters(middle, {0, 10}) == std::vector<int32_t>{0, 1});
}

TEST_CASE("Clusters of the same points under another name agree fully") {
  const Points points = corners(4, 25, 5, 0.3);
  const LayerClusters one = cluster_tokens(points, 4, 1), other = cluster_tokens(points, 4, 2);
  CHECK(kappa(as_selections(one.balanced, 4), as_selections(other.balanced, 4)) == 1);
  CHECK(kappa(as_selections(one.unbalanced, 4), as_selections(other.unbalanced, 4)) == 1);
}

TEST_CASE("Points of unit length: directions are clustered, whatever their lengths") {
  // Two directions, each with short and with long points: the lengths lie further apart than the directions.
  Points points{.width = 2};
  for (int i = 0; i < 40; ++i) {
    const double length = i % 4 < 2 ? 1 : 100;
    points.values.push_back(static_cast<float>(length * (i % 2 == 0 ? 0.6 : 0.8)));
    points.values.push_back(static_cast<float>(length * (i % 2 == 0 ? 0.8 : 0.6)));
  }
  points.values.insert(points.values.end(), {0, 0});  // of no direction: stays
  scale_to_unit_length(points);
  for (int64_t i = 0; i < 40; ++i) {
    CHECK(points[i][0] == Approx(i % 2 == 0 ? 0.6 : 0.8));
    CHECK(points[i][1] == Approx(i % 2 == 0 ? 0.8 : 0.6));
  }
  CHECK(points[40][0] == 0);
  points.values.resize(80);
  const Clustering found = k_means(points, 2);
  for (size_t i = 0; i < 40; ++i) CHECK(found.cluster_of[i] == found.cluster_of[i % 2]);
  CHECK(found.cluster_of[0] != found.cluster_of[1]);
}
