// Attention over a prefix cache. docs/mathematics.md, section 2, one token at a time.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void ReferenceOps::run(const CacheAppend& op) {
  const HeadLayout& l = op.layout;
  const auto k = heads(op.k), v = heads(op.v), keys = heads(op.keys), values = heads(op.values);
  const auto sequence = ids(op.places.sequence), position = ids(op.places.position);
  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t s = 0; s < l.tokens; ++s) {
      const int64_t token = b * l.tokens + s;
      for (int64_t g = 0; g < l.kv_heads; ++g) {
        for (int64_t a = 0; a < l.head_dim; ++a) keys(sequence(token), g, position(token), a) = k(b, g, s, a);
        for (int64_t a = 0; v && a < l.value_width(); ++a)
          values(sequence(token), g, position(token), a) = v(b, g, s, a);
      }
    }
  }
}

void ReferenceOps::run(const CacheAttention& op) {
  const HeadLayout& l = op.layout;
  const auto q = heads(op.q), keys = heads(op.keys), values = heads(op.values ? op.values : op.keys);
  const double scale = l.score_factor / std::sqrt(static_cast<double>(l.head_dim));
  const auto sequence = ids(op.places.sequence), position = ids(op.places.position);
  const auto out = matrix(op.out);
  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t s = 0; s < l.tokens; ++s) {
      const int64_t token = b * l.tokens + s, n = sequence(token), last = position(token);
      for (int64_t h = 0; h < l.heads; ++h) {
        const int64_t g = h / (l.heads / l.kv_heads);
        std::vector<double> p;
        for (int64_t j = 0; j <= last; ++j) {
          double score = 0;
          for (int64_t a = 0; a < l.head_dim; ++a) score += q(b, h, s, a) * keys(n, g, j, a);
          p.push_back(scale * score);
        }
        const double largest = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& x : p) sum += x = std::exp(x - largest);
        for (int64_t a = 0; a < l.value_width(); ++a) {
          double value = 0;
          for (int64_t j = 0; j <= last; ++j) value += p[static_cast<size_t>(j)] / sum * values(n, g, j, a);
          out(token, h * l.value_width() + a) = value;
        }
      }
    }
  }
}

}  // namespace strand
