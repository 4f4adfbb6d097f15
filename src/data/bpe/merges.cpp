#include "data/bpe/merges.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

#include "core/error.h"

namespace strand {

namespace {
/// The number of slots for so many entries, a power of two: at most half of them are taken.
size_t slots_for(size_t entries) {
  return std::bit_ceil(2 * entries + 1);
}

size_t hash_of(std::string_view text) {
  return XXH3_64bits(text.data(), text.size());
}

size_t hash_of(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15u;  // 2^64 over the golden ratio (Knuth, multiplicative hashing)
  return pair ^ pair >> 32;
}

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}
}  // namespace

TokenTable::TokenTable(const std::vector<std::string>& texts)
    : texts_(texts), slots_(slots_for(texts.size()), -1), mask_(slots_.size() - 1) {
  for (size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) continue;
    size_t place = hash_of(texts[id]) & mask_;
    while (slots_[place] >= 0) place = (place + 1) & mask_;
    slots_[place] = static_cast<int32_t>(id);
  }
}

int32_t TokenTable::find(std::string_view text) const {
  for (size_t place = hash_of(text) & mask_;; place = (place + 1) & mask_) {
    const int32_t id = slots_[place];
    if (id < 0 || texts_[static_cast<size_t>(id)] == text) return id;
  }
}

MergeTable::MergeTable(const std::vector<Merge>& merges) : slots_(slots_for(merges.size())), mask_(slots_.size() - 1) {
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    slots_[place_of(pair)] = {pair, {static_cast<uint32_t>(rank), merges[rank].whole}};
  }
}

size_t MergeTable::place_of(uint64_t pair) const {
  size_t place = hash_of(pair) & mask_;
  while (slots_[place].pair != pair && slots_[place].pair != UINT64_MAX) place = (place + 1) & mask_;
  return place;
}

MergeTable::Found MergeTable::find(int32_t left, int32_t right) const {
  return slots_[place_of(pair_of(left, right))].found;
}

PieceEncoder::PieceEncoder(const std::vector<std::string>& texts, const std::vector<Merge>& merges, Options options)
    : options_(options), table_(texts), merges_(merges), whole_(new std::atomic<Whole>[texts.size()] {}) {
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids_[byte] = table_.find(std::string_view(&text, 1));
  }
}

void PieceEncoder::encode(std::string_view piece, std::vector<PieceToken>& tokens) const {
  const int32_t id = table_.find(piece);
  if (id < 0) return merge(piece, tokens);
  std::atomic<Whole>& known = whole_[static_cast<size_t>(id)];
  Whole whole = options_.ignore_merges ? Whole::yes : known.load(std::memory_order_relaxed);
  if (whole == Whole::unknown) {
    std::vector<PieceToken> merged;
    merge(piece, merged);
    whole = merged.size() == 1 && merged[0].id == id ? Whole::yes : Whole::no;
    known.store(whole, std::memory_order_relaxed);  // every thread finds the same
  }
  if (whole == Whole::no) return merge(piece, tokens);
  tokens.push_back({id, static_cast<uint32_t>(piece.size())});
}

void PieceEncoder::add_bytes(std::string_view piece, std::vector<PieceToken>& tokens) const {
  bool after_unknown = false;
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id >= 0) {
      tokens.push_back({id, 1});
    } else if (after_unknown && options_.fuse_unknown) {
      ++tokens.back().bytes;
    } else if (options_.unknown >= 0) {
      tokens.push_back({options_.unknown, 1});
    }
    after_unknown = id < 0 && options_.unknown >= 0;
  }
}

void PieceEncoder::merge(std::string_view piece, std::vector<PieceToken>& tokens) const {
  constexpr size_t short_tokens = 64;
  require(piece.size() < size_t{1} << 31, "a piece of {} bytes without a place to split it is too long", piece.size());
  const size_t first = tokens.size();
  add_bytes(piece, tokens);
  if (tokens.size() - first <= short_tokens) {
    merge_short(first, tokens);
  } else {
    merge_long(first, tokens);
  }
}

/// Looks at all pairs for each merge. For short pieces that is the quickest way.
void PieceEncoder::merge_short(size_t first, std::vector<PieceToken>& tokens) const {
  PieceToken* const piece = tokens.data() + first;
  size_t count = tokens.size() - first;
  std::array<MergeTable::Found, 64> pairs;  // pairs[i]: of the tokens i and i + 1
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.find(piece[i].id, piece[i + 1].id);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == MergeTable::no_rank) break;
    piece[best] = {pairs[best].whole, piece[best].bytes + piece[best + 1].bytes};
    std::copy(piece + best + 2, piece + count, piece + best + 1);
    std::copy(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(count) - 1,
              pairs.begin() + static_cast<std::ptrdiff_t>(best));
    --count;
    if (best > 0) pairs[best - 1] = merges_.find(piece[best - 1].id, piece[best].id);
    if (best + 1 < count) pairs[best] = merges_.find(piece[best].id, piece[best + 1].id);
  }
  tokens.resize(first + count);
}

/// Keeps the pairs in a heap and the tokens in a list, so that n bytes take n log n steps.
void PieceEncoder::merge_long(size_t first, std::vector<PieceToken>& tokens) const {
  struct Node {
    PieceToken token;
    uint32_t before, after;
  };
  struct Candidate {
    uint32_t rank, place;  // of the left token
    int32_t left, right, whole;
    bool operator<(const Candidate& other) const {  // the best one on top of the heap
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  const auto count = static_cast<uint32_t>(tokens.size() - first);
  const uint32_t none = count;
  std::vector<Node> nodes(count);
  for (uint32_t i = 0; i < count; ++i) nodes[i] = {tokens[first + i], i > 0 ? i - 1 : none, i + 1};
  std::priority_queue<Candidate> heap;
  const auto consider = [&](uint32_t left) {
    const uint32_t right = left == none ? none : nodes[left].after;
    if (right == none) return;
    const int32_t left_id = nodes[left].token.id, right_id = nodes[right].token.id;
    const MergeTable::Found found = merges_.find(left_id, right_id);
    if (found.rank != MergeTable::no_rank) heap.push({found.rank, left, left_id, right_id, found.whole});
  };
  for (uint32_t i = 0; i < count; ++i) consider(i);
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    // A token that was merged since has another id, or none.
    const uint32_t left = best.place, right = nodes[left].after;
    if (nodes[left].token.id != best.left || right == none || nodes[right].token.id != best.right) continue;
    nodes[left].token = {best.whole, nodes[left].token.bytes + nodes[right].token.bytes};
    nodes[right].token.id = -1;
    nodes[left].after = nodes[right].after;
    if (nodes[left].after != none) nodes[nodes[left].after].before = left;
    consider(left);
    consider(nodes[left].before);
  }
  tokens.resize(first);
  for (uint32_t i = 0; i < count; i = nodes[i].after) tokens.push_back(nodes[i].token);
}

}  // namespace strand
