// Causal grouped-query attention with optional RMSNorm of q and k and rotary embeddings. docs/mathematics.md,
// section 2.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

namespace {
/// Where one of q, k, v lies in a row of the fused projection.
struct Part {
  int64_t column;  ///< of its head 0
  int64_t heads;
};
Part part_q(const HeadLayout& l) {
  return {0, l.heads};
}
Part part_k(const HeadLayout& l) {
  return {l.heads * l.head_dim, l.kv_heads};
}
Part part_v(const HeadLayout& l) {
  return {(l.heads + l.kv_heads) * l.head_dim, l.kv_heads};
}

using Row = std::vector<double>;

Row load_row(const Tensor& qkv, int64_t token, const Part& part, int64_t head_dim) {
  const auto from = matrix(qkv);
  Row row(static_cast<size_t>(part.heads * head_dim));
  for (size_t i = 0; i < row.size(); ++i) row[i] = from(token, part.column + static_cast<int64_t>(i));
  return row;
}

void store_row(const Row& row, const Tensor& qkv, int64_t token, const Part& part) {
  const auto to = matrix(qkv);
  for (size_t i = 0; i < row.size(); ++i) to(token, part.column + static_cast<int64_t>(i)) = row[i];
}

/// [B, heads, S, A] from and to one token's row of heads.
void store_heads(const Row& row, const Tensor& to, int64_t b, int64_t s) {
  const auto y = heads(to);
  for (int64_t h = 0; h < y.dim(1); ++h)
    for (int64_t a = 0; a < y.dim(3); ++a) y(b, h, s, a) = row[static_cast<size_t>(h * y.dim(3) + a)];
}
Row load_heads(const Tensor& from, int64_t b, int64_t s) {
  const auto x = heads(from);
  Row row(static_cast<size_t>(x.dim(1) * x.dim(3)));
  for (int64_t h = 0; h < x.dim(1); ++h)
    for (int64_t a = 0; a < x.dim(3); ++a) row[static_cast<size_t>(h * x.dim(3) + a)] = x(b, h, s, a);
  return row;
}

enum class Rotate { forth, back };

/// Half-split RoPE: pairs (i, i + R/2) of each head turn by the angle of the position; the gradient turns back.
void rotate(Row& row, const HeadLayout& l, const Tensor& rotary, int64_t position, Rotate direction) {
  if (l.rotary_dim == 0) return;
  const auto table = matrix(rotary);
  const int64_t half = l.rotary_dim / 2;
  for (size_t head = 0; head < row.size(); head += static_cast<size_t>(l.head_dim)) {
    for (int64_t i = 0; i < half; ++i) {
      const double cosine = table(position, i);
      const double sine = table(position, half + i) * (direction == Rotate::forth ? 1 : -1);
      double& x1 = row[head + static_cast<size_t>(i)];
      double& x2 = row[head + static_cast<size_t>(half + i)];
      const double y1 = x1 * cosine - x2 * sine;
      const double y2 = x2 * cosine + x1 * sine;
      x1 = y1;
      x2 = y2;
    }
  }
}

/// A norm runs over groups of `width` values of a row: every head, or the row as a whole.
int64_t norm_width(QkNorm norm, const HeadLayout& l, const Row& row) {
  return norm == QkNorm::head ? l.head_dim : static_cast<int64_t>(row.size());
}

void normalize(Row& row, int64_t width, double eps, const Tensor& weight, const Tensor& rstd, int64_t token) {
  const auto w = vector(weight);
  const auto r = matrix(rstd);
  const auto groups = static_cast<int64_t>(row.size()) / width;
  for (int64_t g = 0; g < groups; ++g) {
    double* x = &row[static_cast<size_t>(g * width)];
    double mean_square = 0;
    for (int64_t i = 0; i < width; ++i) mean_square += x[i] * x[i] / static_cast<double>(width);
    r(token, g) = 1 / std::sqrt(mean_square + eps);
    for (int64_t i = 0; i < width; ++i) x[i] *= r(token, g) * w(i);
  }
}

/// As in norm.cpp: x̂ = x·rstd, a = ∂y·w, ∂x = rstd (a − x̂ mean(a x̂)), ∂w += ∂y x̂. `dy` becomes ∂x.
void normalize_backward(Row& dy, const Row& row, int64_t width, const Tensor& weight, const Tensor& rstd,
                        const Tensor& dweight, int64_t token) {
  const auto w = vector(weight), dw = vector(dweight);
  const auto r = matrix(rstd);
  const auto groups = static_cast<int64_t>(row.size()) / width;
  for (int64_t g = 0; g < groups; ++g) {
    const auto at = [&](int64_t i) { return static_cast<size_t>(g * width + i); };
    double mean = 0;
    for (int64_t i = 0; i < width; ++i)
      mean += dy[at(i)] * w(i) * row[at(i)] * r(token, g) / static_cast<double>(width);
    for (int64_t i = 0; i < width; ++i) {
      const double x_hat = row[at(i)] * r(token, g);
      dw(i) += dy[at(i)] * x_hat;
      dy[at(i)] = r(token, g) * (dy[at(i)] * w(i) - x_hat * mean);
    }
  }
}
}  // namespace

void ReferenceOps::run(const SplitHeads& op) {
  const HeadLayout& l = op.layout;
  const auto normalized_and_rotated = [&](const Part& part, const Tensor& weight, const Tensor& rstd, int64_t token) {
    Row row = load_row(op.qkv, token, part, l.head_dim);
    if (op.norm != QkNorm::none) normalize(row, norm_width(op.norm, l, row), op.eps, weight, rstd, token);
    rotate(row, l, op.rotary, token % l.tokens, Rotate::forth);
    return row;
  };
  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t s = 0; s < l.tokens; ++s) {
      const int64_t token = b * l.tokens + s;
      store_heads(normalized_and_rotated(part_q(l), op.q_weight, op.q_rstd, token), op.q, b, s);
      store_heads(normalized_and_rotated(part_k(l), op.k_weight, op.k_rstd, token), op.k, b, s);
      store_heads(load_row(op.qkv, token, part_v(l), l.head_dim), op.v, b, s);
    }
  }
}

void ReferenceOps::run(const SplitHeadsBackward& op) {
  const HeadLayout& l = op.layout;
  const auto backward = [&](Row dy, const Part& part, const Tensor& weight, const Tensor& rstd, const Tensor& dweight,
                            int64_t token) {
    rotate(dy, l, op.rotary, token % l.tokens, Rotate::back);
    if (op.norm != QkNorm::none) {
      const Row row = load_row(op.qkv, token, part, l.head_dim);
      normalize_backward(dy, row, norm_width(op.norm, l, row), weight, rstd, dweight, token);
    }
    store_row(dy, op.dqkv, token, part);
  };
  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t s = 0; s < l.tokens; ++s) {
      const int64_t token = b * l.tokens + s;
      backward(load_heads(op.dq, b, s), part_q(l), op.q_weight, op.q_rstd, op.dq_weight, token);
      backward(load_heads(op.dk, b, s), part_k(l), op.k_weight, op.k_rstd, op.dk_weight, token);
      store_row(load_heads(op.dv, b, s), op.dqkv, token, part_v(l));
    }
  }
}

namespace {
/// f / √A
double scale_of(const HeadLayout& l) {
  return l.score_factor / std::sqrt(static_cast<double>(l.head_dim));
}

/// ⟨q_i, k_j⟩
double product(const View<double, 4>& q, const View<double, 4>& k, int64_t b, int64_t h, int64_t g, int64_t i,
               int64_t j) {
  double dot = 0;
  for (int64_t a = 0; a < q.dim(3); ++a) dot += q(b, h, i, a) * k(b, g, j, a);
  return dot;
}
}  // namespace

// out_i = Σ_{j≤i} P_ij v_j,  P_ij = exp(score_ij − lse_i),  lse_i = log Σ_{j≤i} exp(score_ij)
void ReferenceOps::run(const Attention& op) {
  const HeadLayout& l = op.layout;
  const auto q = heads(op.q), k = heads(op.k), v = heads(op.v);
  const auto out = matrix(op.out);
  const auto lse = cube(op.lse);
  const int64_t width = l.value_width();
  Row scores(static_cast<size_t>(l.tokens));
  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t h = 0; h < l.heads; ++h) {
      const int64_t g = h / (l.heads / l.kv_heads);
      for (int64_t i = 0; i < l.tokens; ++i) {
        for (int64_t j = 0; j <= i; ++j) scores[static_cast<size_t>(j)] = scale_of(l) * product(q, k, b, h, g, i, j);
        const double largest = *std::max_element(scores.begin(), scores.begin() + i + 1);
        double sum = 0;
        for (int64_t j = 0; j <= i; ++j) sum += std::exp(scores[static_cast<size_t>(j)] - largest);
        lse(b, h, i) = largest + std::log(sum);

        for (int64_t a = 0; a < width; ++a) {
          double value = 0;
          for (int64_t j = 0; j <= i; ++j)
            value += std::exp(scores[static_cast<size_t>(j)] - lse(b, h, i)) * v(b, g, j, a);
          out(b * l.tokens + i, h * width + a) = value;
        }
      }
    }
  }
}

// Δ_i = ⟨∂out_i, out_i⟩;  ∂V = Pᵀ ∂O;  ∂S = P ⊙ (∂O Vᵀ − Δ);  ∂Q = f ∂S K /√A;  ∂K = f ∂Sᵀ Q /√A
void ReferenceOps::run(const AttentionBackward& op) {
  const HeadLayout& l = op.layout;
  const auto q = heads(op.q), k = heads(op.k), v = heads(op.v);
  const auto dq = heads(op.dq), dk = heads(op.dk), dv = heads(op.dv);
  const auto out = matrix(op.out), dout = matrix(op.dout);
  const auto lse = cube(op.lse), delta = cube(op.delta);
  const double scale = scale_of(l);
  const int64_t width = l.value_width();
  for (const Tensor& gradient : {op.dq, op.dk, op.dv}) run(Zero{.x = gradient});

  for (int64_t b = 0; b < l.sequences; ++b) {
    for (int64_t h = 0; h < l.heads; ++h) {
      const int64_t g = h / (l.heads / l.kv_heads);
      for (int64_t i = 0; i < l.tokens; ++i) {
        const int64_t row = b * l.tokens + i, column = h * width;
        delta(b, h, i) = 0;
        for (int64_t a = 0; a < width; ++a) delta(b, h, i) += dout(row, column + a) * out(row, column + a);

        for (int64_t j = 0; j <= i; ++j) {
          const double p = std::exp(scale * product(q, k, b, h, g, i, j) - lse(b, h, i));
          double dp = 0;
          for (int64_t a = 0; a < width; ++a) dp += dout(row, column + a) * v(b, g, j, a);
          const double ds = p * (dp - delta(b, h, i));
          for (int64_t a = 0; a < width; ++a) dv(b, g, j, a) += p * dout(row, column + a);
          for (int64_t a = 0; a < l.head_dim; ++a) {
            dq(b, h, i, a) += ds * k(b, g, j, a) * scale;
            dk(b, g, j, a) += ds * q(b, h, i, a) * scale;
          }
        }
      }
    }
  }
}

}  // namespace strand
