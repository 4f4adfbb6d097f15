#pragma once
// Says how unusual a number is against its recent past. It keeps the last `window` values, and score(x) is (x − mean) /
// standard deviation of those, or 0 until the window is full and while it is constant. Loss and gradient-norm spikes
// show here first.
#include <cmath>
#include <cstddef>
#include <vector>

namespace strand {

class ZScore {
 public:
  explicit ZScore(size_t window = 128) : window_(window) {}

  /// The values in the window, oldest first. restore() takes them back, and scoring continues as if never interrupted.
  std::vector<double> values() const {
    std::vector<double> ordered(values_.begin() + static_cast<std::ptrdiff_t>(next_), values_.end());
    ordered.insert(ordered.end(), values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(next_));
    return ordered;
  }
  void restore(const std::vector<double>& oldest_first) {
    const size_t n = oldest_first.size() < window_ ? oldest_first.size() : window_;
    values_.assign(oldest_first.end() - static_cast<std::ptrdiff_t>(n), oldest_first.end());
    next_ = 0;
  }

  /// The score of `x` against the values before it, which it joins. A value that is not finite scores 0 and is left
  /// out.
  double score(double x) {
    if (!std::isfinite(x)) return 0;
    const double z = values_.size() < window_ ? 0 : against_window(x);
    if (values_.size() < window_) {
      values_.push_back(x);
    } else {
      values_[next_] = x;
      next_ = (next_ + 1) % window_;
    }
    return z;
  }

 private:
  double against_window(double x) const {
    // Oldest first, so that the bits do not depend on where in the ring the window begins (a resumed run's differs).
    const auto from_oldest = [this](size_t i) { return values_[(next_ + i) % window_]; };
    double mean = 0, variance = 0;
    for (size_t i = 0; i < window_; ++i) mean += from_oldest(i);
    mean /= static_cast<double>(window_);
    for (size_t i = 0; i < window_; ++i) variance += (from_oldest(i) - mean) * (from_oldest(i) - mean);
    variance /= static_cast<double>(window_);
    return variance > 0 ? (x - mean) / std::sqrt(variance) : 0;
  }

  size_t window_;
  size_t next_ = 0;
  std::vector<double> values_;
};

}  // namespace strand
