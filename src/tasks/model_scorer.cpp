#include "tasks/model_scorer.h"

#include <cstring>
#include <exception>

#include "core/error.h"

namespace strand {

namespace {
/// Requests [begin, end) with the same context.
struct Run {
  size_t begin, end;
};

bool share_context(const TextRequest& a, const TextRequest& b) {
  return a.likelihood == Likelihood::of_continuation && b.likelihood == Likelihood::of_continuation &&
         a.context == b.context;
}

/// The runs of one process.
std::vector<Run> runs_of(std::span<const TextRequest> requests, int rank, int ranks) {
  std::vector<Run> mine;
  int owner = 0;
  for (size_t begin = 0; begin < requests.size();) {
    size_t end = begin + 1;
    while (end < requests.size() && share_context(requests[begin], requests[end])) ++end;
    if (owner == rank) mine.push_back({begin, end});
    owner = (owner + 1) % ranks;
    begin = end;
  }
  return mine;
}

std::vector<EncodedRequest> encode_run(const RequestEncoder& encoder, std::span<const TextRequest> run) {
  if (run[0].likelihood == Likelihood::of_continuation) return encoder.encode(run);
  return {encoder.encode_text(run[0])};
}

/// All runs, by all threads. The error that is thrown is that of the first run that has one.
std::vector<EncodedRequest> encode_all(const RequestEncoder& encoder, std::span<const TextRequest> requests,
                                       const std::vector<Run>& runs) {
  std::vector<std::vector<EncodedRequest>> encoded(runs.size());
  std::vector<std::exception_ptr> errors(runs.size());
#pragma omp parallel for schedule(dynamic, 16)
  for (size_t i = 0; i < runs.size(); ++i) {
    try {
      encoded[i] = encode_run(encoder, requests.subspan(runs[i].begin, runs[i].end - runs[i].begin));
    } catch (...) {
      errors[i] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  std::vector<EncodedRequest> all;
  for (std::vector<EncodedRequest>& run : encoded)
    for (EncodedRequest& request : run) all.push_back(std::move(request));
  return all;
}

std::string bytes_of(const std::vector<TokenScore>& scores) {
  std::string bytes;
  for (const TokenScore& score : scores) {
    char number[sizeof(double)];
    std::memcpy(number, &score.log_likelihood, sizeof number);
    bytes.append(number, sizeof number);
    bytes += score.greedy ? '\1' : '\0';
  }
  return bytes;
}

TokenScore score_at(const std::string& bytes, size_t index) {
  constexpr size_t size = sizeof(double) + 1;
  TokenScore score;
  std::memcpy(&score.log_likelihood, bytes.data() + index * size, sizeof(double));
  score.greedy = bytes[index * size + sizeof(double)] != '\0';
  return score;
}
}  // namespace

ModelScorer::ModelScorer(const RequestEncoder& encoder, OpenSession open, ControlChannel& all,
                         ModelScorerOptions options)
    : encoder_(encoder), open_(std::move(open)), all_(all), options_(std::move(options)) {}

std::vector<TokenScore> ModelScorer::score(std::span<const TextRequest> requests) {
  const std::vector<EncodedRequest> encoded =
      encode_all(encoder_, requests, runs_of(requests, all_.rank(), all_.size()));
  std::vector<TokenRequest> parts;
  std::vector<size_t> request_of;  // of each part
  int64_t cut = 0;
  for (size_t i = 0; i < encoded.size(); ++i) {
    cut += encoded[i].cut;
    for (const TokenRequest& part : encoded[i].parts) {
      parts.push_back(part);
      request_of.push_back(i);
    }
  }
  Session& session = open_(scoring_shape(parts, options_.pass_tokens));
  const std::vector<TokenScore> scores = strand::score(session, parts, {.on_progress = on_progress_});

  std::vector<TokenScore> mine(encoded.size());
  for (size_t p = 0; p < parts.size(); ++p) {
    mine[request_of[p]].log_likelihood += scores[p].log_likelihood;
    mine[request_of[p]].greedy = scores[p].greedy;
  }
  std::vector<TokenScore> result(requests.size());
  const std::vector<std::string> gathered = all_.all_gather(bytes_of(mine));
  for (int rank = 0; rank < all_.size(); ++rank) {
    size_t at = 0;
    for (const Run& run : runs_of(requests, rank, all_.size()))
      for (size_t i = run.begin; i < run.end; ++i) result[i] = score_at(gathered[static_cast<size_t>(rank)], at++);
  }
  for (size_t i = 0; i < requests.size(); ++i)
    if (requests[i].likelihood == Likelihood::of_text) result[i].greedy = false;
  cut_ += all_.all_reduce_sum(cut);
  return result;
}

}  // namespace strand
