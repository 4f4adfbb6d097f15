// Multi-head latent attention around the attention itself. docs/mathematics.md, section 2.
#include <cmath>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

// y = x rstd w,  rstd = rsqrt(mean(x²) + eps)
void ReferenceOps::run(const LatentNorm& op) {
  const auto x = matrix(op.x), y = matrix(op.y);
  const auto w = vector(op.weight), rstd = vector(op.rstd);
  const int64_t n = w.dim(0);
  for (int64_t t = 0; t < x.dim(0); ++t) {
    double mean_square = 0;
    for (int64_t i = 0; i < n; ++i) mean_square += x(t, op.first + i) * x(t, op.first + i) / static_cast<double>(n);
    rstd(t) = 1 / std::sqrt(mean_square + op.eps);
    for (int64_t i = 0; i < n; ++i) y(t, i) = x(t, op.first + i) * rstd(t) * w(i);
  }
}

// x̂ = x rstd,  a = ∂y w,  ∂x = rstd (a − x̂ mean(a x̂)),  ∂w += Σ_t ∂y x̂
void ReferenceOps::run(const LatentNormBackward& op) {
  const auto dy = matrix(op.dy), x = matrix(op.x), dx = matrix(op.dx);
  const auto w = vector(op.weight), rstd = vector(op.rstd), dw = vector(op.dweight);
  const int64_t n = w.dim(0);
  for (int64_t t = 0; t < x.dim(0); ++t) {
    const auto x_hat = [&](int64_t i) { return x(t, op.first + i) * rstd(t); };
    double mean = 0;
    for (int64_t i = 0; i < n; ++i) mean += dy(t, i) * w(i) * x_hat(i) / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      dx(t, op.first + i) = rstd(t) * (dy(t, i) * w(i) - x_hat(i) * mean);
      dw(i) += dy(t, i) * x_hat(i);
    }
  }
}

namespace {
/// x_i and x_{i + p/2} of a rotated vector x, turned by the angles of a position.
struct Pair {
  double first, second;
};
Pair turned(const Pair& x, const View<double, 2>& table, int64_t position, int64_t i) {
  const double cosine = table(position, i), sine = table(position, table.dim(1) / 2 + i);
  return {x.first * cosine - x.second * sine, x.second * cosine + x.first * sine};
}
Pair turned_back(const Pair& x, const View<double, 2>& table, int64_t position, int64_t i) {
  const double cosine = table(position, i), sine = table(position, table.dim(1) / 2 + i);
  return {x.first * cosine + x.second * sine, x.second * cosine - x.first * sine};
}

/// to[b, h, s, at + …] = the p columns of `from` from `column` on, turned.
void rotate_into(const View<double, 4>& to, int64_t h, int64_t at, const View<double, 2>& from, int64_t token,
                 int64_t column, const LatentLayout& l, const View<double, 2>& table) {
  const int64_t b = token / l.tokens, s = token % l.tokens, half = l.rope_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const Pair y = turned({from(token, column + i), from(token, column + half + i)}, table, s, i);
    to(b, h, s, at + i) = y.first;
    to(b, h, s, at + half + i) = y.second;
  }
}
}  // namespace

void ReferenceOps::run(const SplitLatentHeads& op) {
  const LatentLayout& l = op.layout;
  const auto queries = matrix(op.queries), keys_values = matrix(op.keys_values), shared = matrix(op.shared_key);
  const auto table = matrix(op.rotary);
  const auto q = heads(op.q), k = heads(op.k), v = heads(op.v);
  for (int64_t t = 0; t < l.rows(); ++t) {
    const int64_t b = t / l.tokens, s = t % l.tokens;
    for (int64_t h = 0; h < l.heads; ++h) {
      const int64_t query = h * l.key_dim(), key = h * (l.nope_dim + l.value_dim);
      for (int64_t i = 0; i < l.nope_dim; ++i) {
        q(b, h, s, i) = queries(t, query + i);
        k(b, h, s, i) = keys_values(t, key + i);
      }
      rotate_into(q, h, l.nope_dim, queries, t, query + l.nope_dim, l, table);
      rotate_into(k, h, l.nope_dim, shared, t, shared.dim(1) - l.rope_dim, l, table);
      for (int64_t i = 0; i < l.value_dim; ++i) v(b, h, s, i) = keys_values(t, key + l.nope_dim + i);
    }
  }
}

void ReferenceOps::run(const SplitLatentHeadsBackward& op) {
  const LatentLayout& l = op.layout;
  const auto dq = heads(op.dq), dk = heads(op.dk), dv = heads(op.dv);
  const auto table = matrix(op.rotary);
  const auto dqueries = matrix(op.dqueries), dkeys_values = matrix(op.dkeys_values), dshared = matrix(op.dshared_key);
  const int64_t half = l.rope_dim / 2, n = l.nope_dim;
  for (int64_t t = 0; t < l.rows(); ++t) {
    const int64_t b = t / l.tokens, s = t % l.tokens, last = dshared.dim(1) - l.rope_dim;
    for (int64_t i = 0; i < l.rope_dim; ++i) dshared(t, last + i) = 0;
    for (int64_t h = 0; h < l.heads; ++h) {
      const int64_t query = h * l.key_dim(), key = h * (n + l.value_dim);
      for (int64_t i = 0; i < n; ++i) {
        dqueries(t, query + i) = dq(b, h, s, i);
        dkeys_values(t, key + i) = dk(b, h, s, i);
      }
      for (int64_t i = 0; i < half; ++i) {
        const Pair turned_q = turned_back({dq(b, h, s, n + i), dq(b, h, s, n + half + i)}, table, s, i);
        const Pair turned_k = turned_back({dk(b, h, s, n + i), dk(b, h, s, n + half + i)}, table, s, i);
        dqueries(t, query + n + i) = turned_q.first;
        dqueries(t, query + n + half + i) = turned_q.second;
        dshared(t, last + i) += turned_k.first;
        dshared(t, last + half + i) += turned_k.second;
      }
      for (int64_t i = 0; i < l.value_dim; ++i) dkeys_values(t, key + n + i) = dv(b, h, s, i);
    }
  }
}

// absorbed_h = q^n_h W^k_h
void ReferenceOps::run(const AbsorbKeys& op) {
  const LatentLayout& l = op.layout;
  const auto queries = matrix(op.queries), weight = matrix(op.weight), absorbed = matrix(op.absorbed);
  for (int64_t t = 0; t < l.rows(); ++t)
    for (int64_t h = 0; h < l.heads; ++h)
      for (int64_t j = 0; j < l.latent; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < l.nope_dim; ++i)
          sum += queries(t, h * l.key_dim() + i) * weight(h * (l.nope_dim + l.value_dim) + i, j);
        absorbed(t, h * l.latent + j) = sum;
      }
}

// out_h = found_h W^v_hᵀ
void ReferenceOps::run(const ExpandValues& op) {
  const LatentLayout& l = op.layout;
  const auto found = matrix(op.found), weight = matrix(op.weight), out = matrix(op.out);
  for (int64_t t = 0; t < l.rows(); ++t)
    for (int64_t h = 0; h < l.heads; ++h)
      for (int64_t i = 0; i < l.value_dim; ++i) {
        const int64_t row = h * (l.nope_dim + l.value_dim) + l.nope_dim + i;
        double sum = 0;
        for (int64_t j = 0; j < l.latent; ++j) sum += found(t, h * l.latent + j) * weight(row, j);
        out(t, h * l.value_dim + i) = sum;
      }
}

void ReferenceOps::run(const LatentCacheHeads& op) {
  const LatentLayout& l = op.layout;
  const auto latent = matrix(op.latent), shared = matrix(op.shared_key), table = matrix(op.rotary);
  const auto queries = matrix(op.queries), absorbed = matrix(op.absorbed);
  const auto row = heads(op.row), q = heads(op.q);
  for (int64_t t = 0; t < l.rows(); ++t) {
    const int64_t b = t / l.tokens, s = t % l.tokens;
    for (int64_t j = 0; j < l.latent; ++j) row(b, 0, s, j) = latent(t, j);
    rotate_into(row, 0, l.latent, shared, t, shared.dim(1) - l.rope_dim, l, table);
    for (int64_t h = 0; q && h < l.heads; ++h) {
      for (int64_t j = 0; j < l.latent; ++j) q(b, h, s, j) = absorbed(t, h * l.latent + j);
      rotate_into(q, h, l.latent, queries, t, h * l.key_dim() + l.nope_dim, l, table);
    }
  }
}

}  // namespace strand
