#pragma once
// A trace: which experts each token of some text used in each layer of a model. Everything that docs/analysis.md counts
// is computed from a trace alone, without the model. docs/analysis.md describes the file.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace strand {

/// The experts of all tokens in one layer: a view of a trace, perhaps with its tokens in another order.
class Selections {
 public:
  /// Token t has the `top_k` ids at first + t · stride; `order`, when given, says which token is taken as token t.
  Selections(const uint16_t* first, int64_t stride, int64_t tokens, int64_t experts, int64_t top_k,
             const std::vector<int32_t>* order = nullptr)
      : first_(first), stride_(stride), tokens_(tokens), experts_(experts), top_k_(top_k), order_(order) {}

  int64_t tokens() const { return tokens_; }
  int64_t experts() const { return experts_; }  ///< E
  int64_t top_k() const { return top_k_; }      ///< K
  /// The K experts of a token, in order of the score by which they were selected.
  std::span<const uint16_t> operator[](int64_t token) const {
    const int64_t t = order_ == nullptr ? token : (*order_)[static_cast<size_t>(token)];
    return {first_ + t * stride_, static_cast<size_t>(top_k_)};
  }
  int64_t top_1(int64_t token) const { return (*this)[token][0]; }
  /// The same, with the tokens in another order. `order` is a permutation that outlives the view.
  Selections in_order(const std::vector<int32_t>& order) const {
    return {first_, stride_, tokens_, experts_, top_k_, &order};
  }

 private:
  const uint16_t* first_;
  int64_t stride_, tokens_, experts_, top_k_;
  const std::vector<int32_t>* order_;
};

/// A part of the text: its sequences come one after the other.
struct TraceDomain {
  std::string name;
  int64_t sequences = 0;
  bool operator==(const TraceDomain&) const = default;
};

struct Trace {
  std::string model;  ///< what it is called
  int64_t step = 0;   ///< of the checkpoint
  int64_t sequence_length = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  std::vector<int64_t> layers;  ///< numbers of the layers in the model
  std::vector<TraceDomain> domains;
  std::vector<uint16_t> experts;   ///< [T, L, K]
  std::vector<int32_t> tokens;     ///< [T], input ids
  std::vector<int32_t> next;       ///< [T], the ids that follow
  std::vector<int32_t> predicted;  ///< [T], the most likely ids

  int64_t token_count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t layer_count() const { return static_cast<int64_t>(layers.size()); }
  /// Of layer `layer`, counted among those of the trace.
  Selections layer(int64_t layer) const {
    return {experts.data() + layer * top_k, layer_count() * top_k, token_count(), num_experts, top_k};
  }
};

/// Throws Error that begins with `where` when sizes do not fit each other, or a token does not have K different experts
/// below E.
void check_trace(const Trace& trace, const std::string& where);

/// Writes one safetensors file, which appears when it is complete. Throws Error naming the path.
void write_trace(const std::string& path, const Trace& trace);
/// Reads and checks one. Throws Error naming the path.
Trace read_trace(const std::string& path);

}  // namespace strand
