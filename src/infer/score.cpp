#include "infer/score.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"

namespace strand {

namespace {
/// Requests with the same context, the one with the longest continuation first.
using Group = std::vector<size_t>;

/// A prediction that is wanted of a row of a pass.
struct Reading {
  int32_t row;
  int32_t target;
  size_t request;
};

/// What a row of logits says about all tokens.
struct Row {
  double log_sum = 0;  ///< ln Σ e^logit
  int32_t best = 0;
};

template <typename Number>
Row summary(const Number* logits, int64_t vocab) {
  const Number* best = std::max_element(logits, logits + vocab);  // the first of equal ones
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v]) - static_cast<double>(*best));
  return {static_cast<double>(*best) + std::log(sum), static_cast<int32_t>(best - logits)};
}

class Scoring {
 public:
  Scoring(Session& session, std::span<const TokenRequest> requests, const ScoringOptions& options)
      : session_(session), requests_(requests), options_(options), scores_(requests.size(), {0, true}) {}

  std::vector<TokenScore> run() {
    const std::vector<Group> groups = make_groups();
    progress_.all_requests = requests_.size();
    for (const Group& group : groups) progress_.all_tokens += tokens_of(group);
    for (size_t begin = 0; begin < groups.size();) begin = pass(groups, begin);
    return std::move(scores_);
  }

 private:
  const TokenRequest& request(size_t i) const { return requests_[i]; }
  int64_t cached_sequences() const { return session_.shape().sequences; }

  /// Sequences of the cache that a group takes: one for its context with the longest continuation, and one for each
  /// other continuation of more than one token.
  int64_t sequences_of(const Group& group) const {
    return 1 +
           std::count_if(group.begin() + 1, group.end(), [&](size_t i) { return request(i).continuation.size() > 1; });
  }

  int64_t tokens_of(const Group& group) const {
    size_t tokens = request(group[0]).context.size();
    for (const size_t i : group) tokens += request(i).continuation.size() - 1;
    return static_cast<int64_t>(tokens);
  }

  /// Groups that fit the cache, the longest first, so that sequences of a pass have similar lengths.
  std::vector<Group> make_groups() const {
    std::vector<Group> groups;
    if (options_.contexts == Contexts::apart) {
      for (size_t i = 0; i < requests_.size(); ++i) groups.push_back({i});
    } else {
      std::map<std::span<const int32_t>, Group, decltype([](auto a, auto b) {
                 return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
               })>
          by_context;
      for (size_t i = 0; i < requests_.size(); ++i) by_context[request(i).context].push_back(i);
      for (auto& [context, group] : by_context) cut_to_fit(std::move(group), groups);
    }
    std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
      const size_t length_a = request(a[0]).inputs(), length_b = request(b[0]).inputs();
      return length_a != length_b ? length_a > length_b : a[0] < b[0];
    });
    return groups;
  }

  void cut_to_fit(Group group, std::vector<Group>& groups) const {
    std::stable_sort(group.begin(), group.end(), [&](size_t a, size_t b) {
      return request(a).continuation.size() > request(b).continuation.size();
    });
    Group part;
    for (const size_t i : group) {
      part.push_back(i);
      if (sequences_of(part) <= cached_sequences()) continue;
      part.pop_back();
      groups.push_back(std::move(part));
      part = {i};
    }
    groups.push_back(std::move(part));
  }

  /// Scores as many groups as the cache has room for, from `begin`. Returns the first that is left.
  size_t pass(const std::vector<Group>& groups, size_t begin) {
    size_t end = begin;
    for (int64_t taken = 0; end < groups.size() && taken + sequences_of(groups[end]) <= cached_sequences(); ++end)
      taken += sequences_of(groups[end]);
    const std::span<const Group> here(groups.data() + begin, end - begin);
    start(here);
    extend(here);
    for (const Group& group : here) {
      progress_.requests += group.size();
      progress_.tokens += tokens_of(group);
    }
    if (options_.on_progress) options_.on_progress(progress_);
    return end;
  }

  /// Contexts, each with its longest continuation, in the first sequences of the cache.
  void start(std::span<const Group> groups) {
    const auto length = static_cast<int32_t>(request(groups[0][0]).inputs());  // the longest comes first
    std::vector<PlacedToken> tokens;
    std::vector<Reading> readings;
    for (size_t g = 0; g < groups.size(); ++g) {
      const auto sequence = static_cast<int32_t>(g);
      const TokenRequest& longest = request(groups[g][0]);
      const int32_t first = sequence * length + static_cast<int32_t>(longest.context.size()) - 1;
      std::vector<int32_t> ids = longest.context;
      ids.insert(ids.end(), longest.continuation.begin(), longest.continuation.end() - 1);
      ids.resize(static_cast<size_t>(length), 0);  // padding
      for (int32_t s = 0; s < length; ++s) tokens.push_back({ids[static_cast<size_t>(s)], sequence, s});
      for (const size_t i : groups[g]) readings.push_back({first, request(i).continuation[0], i});
      for (size_t k = 1; k < longest.continuation.size(); ++k)
        readings.push_back({first + static_cast<int32_t>(k), longest.continuation[k], groups[g][0]});
    }
    session_.decoder().start(session_.stage(tokens), static_cast<int64_t>(groups.size()));
    read(readings);
  }

  /// All other continuations, each after its own copy of its context.
  void extend(std::span<const Group> groups) {
    std::vector<PlacedToken> tokens;
    std::vector<Reading> readings;
    auto sequence = static_cast<int32_t>(groups.size());
    for (size_t g = 0; g < groups.size(); ++g) {
      for (size_t n = 1; n < groups[g].size(); ++n) {
        const size_t i = groups[g][n];
        const std::vector<int32_t>& continuation = request(i).continuation;
        if (continuation.size() == 1) continue;
        session_.decoder().copy_sequence(static_cast<int64_t>(g), sequence);
        for (size_t k = 0; k + 1 < continuation.size(); ++k) {
          readings.push_back({static_cast<int32_t>(tokens.size()), continuation[k + 1], i});
          tokens.push_back({continuation[k], sequence, static_cast<int32_t>(request(i).context.size() + k)});
        }
        ++sequence;
      }
    }
    if (tokens.empty()) return;
    session_.decoder().extend(session_.stage(tokens));
    read(readings);
  }

  /// Adds what the last pass predicts to the scores, row by row; the readings of a row lie together.
  void read(std::span<const Reading> readings) {
    const auto most = static_cast<size_t>(session_.prediction_buffer().dim(0));
    for (size_t begin = 0; begin < readings.size();) {
      std::vector<int32_t> rows;
      size_t end = begin;
      for (; end < readings.size(); ++end) {
        if (!rows.empty() && rows.back() == readings[end].row) continue;
        if (rows.size() == most) break;
        rows.push_back(readings[end].row);
      }
      const Tensor logits = session_.prediction_buffer().rows(0, static_cast<int64_t>(rows.size()));
      session_.decoder().logits(session_.stage_rows(rows), logits);
      if (logits.dtype == DType::f64)
        add(readings.subspan(begin, end - begin), logits, logits64_);
      else
        add(readings.subspan(begin, end - begin), logits, logits32_);
      begin = end;
    }
  }

  template <typename Number>
  void add(std::span<const Reading> readings, const Tensor& logits, std::vector<Number>& host) {
    const int64_t rows = logits.dim(0), vocab = logits.dim(1);
    host.resize(static_cast<size_t>(rows * vocab));
    session_.device().download(logits, host.data());
    summaries_.resize(static_cast<size_t>(rows));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; ++r) summaries_[static_cast<size_t>(r)] = summary(host.data() + r * vocab, vocab);
    int64_t r = 0;
    for (size_t n = 0; n < readings.size(); ++n) {
      const Reading& reading = readings[n];
      if (n > 0 && reading.row != readings[n - 1].row) ++r;
      const Row& row = summaries_[static_cast<size_t>(r)];
      require(std::isfinite(row.log_sum), "the model's logits are not finite: nothing can be scored with it");
      TokenScore& score = scores_[reading.request];
      score.log_likelihood += static_cast<double>(host[static_cast<size_t>(r * vocab + reading.target)]) - row.log_sum;
      score.greedy = score.greedy && row.best == reading.target;
    }
  }

  Session& session_;
  std::span<const TokenRequest> requests_;
  const ScoringOptions& options_;
  std::vector<TokenScore> scores_;
  ScoringProgress progress_;
  std::vector<float> logits32_;
  std::vector<double> logits64_;
  std::vector<Row> summaries_;
};

void check(const Session& session, std::span<const TokenRequest> requests) {
  require(session.shape().purpose == Purpose::scoring, "scoring in a session that was set up for something else");
  const int64_t vocab = session.config().model.vocab_size, positions = session.shape().tokens;
  for (size_t i = 0; i < requests.size(); ++i) {
    const TokenRequest& r = requests[i];
    require(!r.context.empty() && !r.continuation.empty(), "request {}: the {} has no token", i + 1,
            r.context.empty() ? "context" : "continuation");
    require(static_cast<int64_t>(r.inputs()) <= positions, "request {} has {} tokens, but the cache has {} positions",
            i + 1, r.inputs(), positions);
    for (const std::vector<int32_t>* ids : {&r.context, &r.continuation}) {
      for (const int32_t id : *ids)
        require(id >= 0 && id < vocab, "request {}: token id {}, but the vocabulary has {}", i + 1, id, vocab);
    }
  }
}
}  // namespace

SessionShape scoring_shape(std::span<const TokenRequest> requests, int64_t tokens) {
  size_t longest = 1;
  for (const TokenRequest& r : requests) longest = std::max(longest, r.inputs());
  const auto positions = static_cast<int64_t>(longest);
  return {Purpose::scoring, std::max<int64_t>(1, tokens / positions), positions};
}

std::vector<TokenScore> score(Session& session, std::span<const TokenRequest> requests, const ScoringOptions& options) {
  check(session, requests);
  return Scoring(session, requests, options).run();
}

}  // namespace strand
