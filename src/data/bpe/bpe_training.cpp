#include "data/bpe/bpe_training.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <unordered_map>

#include "data/bpe/byte_alphabet.h"
#include "data/bpe/pre_tokenizer.h"
#include "data/tokenizer.h"

namespace strand {

using nlohmann::ordered_json;

namespace {
constexpr const char* bos_text = "<|begin_of_text|>";
constexpr const char* eos_text = "<|end_of_text|>";
constexpr int32_t bos_id = 0, first_byte = 2;
constexpr int64_t least_count = 2;

using Pair = std::pair<int32_t, int32_t>;

struct Word {
  std::vector<int32_t> tokens;
  int64_t count = 0;
};

/// The different pieces of the texts, in the order of their first places, and how often each of them is there.
std::vector<Word> count_words(const std::vector<std::string>& texts) {
  const std::vector<SplitterStage> stages = {SplitStage{Regex(qwen2_pattern, "the pattern of the training")}};
  Splitter splitter(stages);
  std::unordered_map<std::string, size_t> places;
  std::vector<Word> words;
  for (const std::string& text : texts) {
    splitter.split(text, [&](const TextPiece& piece) {
      const auto [place, is_new] = places.emplace(piece.text, words.size());
      if (is_new) {
        Word word;
        for (const char byte : piece.text) word.tokens.push_back(first_byte + static_cast<unsigned char>(byte));
        words.push_back(std::move(word));
      }
      ++words[place->second].count;
    });
  }
  return words;
}

class MergeFinder {
 public:
  explicit MergeFinder(std::vector<Word> words) : words_(std::move(words)) {
    for (uint32_t i = 0; i < words_.size(); ++i) count_pairs(i, words_[i].count);
    for (const auto& [key, pair] : pairs_) heap_.push({pair.count, pair_of(key)});
  }

  /// The pair that occurs most often; nothing when none occurs twice.
  std::optional<Pair> best() {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      if (top.count < least_count) return std::nullopt;
      // A pair whose count changed is in the heap again with its new count.
      if (pairs_.at(key_of(top.pair)).count == top.count) return top.pair;
    }
    return std::nullopt;
  }

  void merge(Pair pair, int32_t made) {
    const std::vector<uint32_t> words = std::move(pairs_.at(key_of(pair)).words);
    changed_.clear();
    for (const uint32_t i : words) {
      std::vector<int32_t>& tokens = words_[i].tokens;
      const auto first =
          std::adjacent_find(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) { return Pair(a, b) == pair; });
      if (first == tokens.end()) continue;  // the list may name a word twice, or one that has changed since
      count_pairs(i, -words_[i].count);
      replace(tokens, pair, made);
      count_pairs(i, words_[i].count);
    }
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const uint64_t key : changed_) {
      const int64_t count = pairs_.at(key).count;
      if (count >= least_count) heap_.push({count, pair_of(key)});
    }
  }

 private:
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {  // the best one on top of the heap
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Counted {
    int64_t count = 0;
    std::vector<uint32_t> words;  ///< all that hold the pair, and perhaps others
  };

  static uint64_t key_of(Pair pair) {
    return uint64_t{static_cast<uint32_t>(pair.first)} << 32 | static_cast<uint32_t>(pair.second);
  }
  static Pair pair_of(uint64_t key) { return {static_cast<int32_t>(key >> 32), static_cast<int32_t>(key)}; }

  /// Adds `count` to every pair of neighbours in a word.
  void count_pairs(uint32_t word, int64_t count) {
    const std::vector<int32_t>& tokens = words_[word].tokens;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const uint64_t key = key_of({tokens[i], tokens[i + 1]});
      Counted& pair = pairs_[key];
      pair.count += count;
      if (count > 0 && (pair.words.empty() || pair.words.back() != word)) pair.words.push_back(word);
      changed_.push_back(key);
    }
  }

  static void replace(std::vector<int32_t>& tokens, Pair pair, int32_t made) {
    size_t to = 0;
    for (size_t from = 0; from < tokens.size(); ++to) {
      const bool found = from + 1 < tokens.size() && Pair(tokens[from], tokens[from + 1]) == pair;
      tokens[to] = found ? made : tokens[from];
      from += found ? 2 : 1;
    }
    tokens.resize(to);
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, Counted> pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<uint64_t> changed_;  ///< keys of pairs whose count changed
};

ordered_json special_token(const char* content) {
  return {{"content", content}, {"single_word", false}, {"lstrip", false},
          {"rstrip", false},    {"normalized", false},  {"special", true}};
}

ordered_json added_token(int32_t id, const char* content) {
  ordered_json token = {{"id", id}};
  token.update(special_token(content));
  return token;
}

ordered_json model_of(const std::vector<Pair>& merges) {
  std::vector<std::string> spellings = {bos_text, eos_text};
  for (int byte = 0; byte < 256; ++byte) spellings.push_back(spelled_byte(static_cast<uint8_t>(byte)));
  ordered_json merge_list = ordered_json::array();
  for (const auto& [left, right] : merges) {
    const std::string &first = spellings[static_cast<size_t>(left)], &second = spellings[static_cast<size_t>(right)];
    merge_list.push_back(first + " " + second);
    spellings.push_back(first + second);
  }
  ordered_json vocabulary = ordered_json::object();
  // An ordered_json compares every new key with all old ones. Tokens are distinct, so they are appended directly.
  auto& entries = vocabulary.get_ref<ordered_json::object_t&>();
  for (size_t id = 0; id < spellings.size(); ++id)
    static_cast<ordered_json::object_t::Container&>(entries).emplace_back(spellings[id], id);
  ordered_json model = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}};
  model["continuing_subword_prefix"] = nullptr;
  model["end_of_word_suffix"] = nullptr;
  model["fuse_unk"] = false;
  model["byte_fallback"] = false;
  model["ignore_merges"] = false;
  model["vocab"] = std::move(vocabulary);
  model["merges"] = std::move(merge_list);
  return model;
}

/// BOS before a text, and before each of two.
ordered_json post_processor() {
  const auto token = [](int type) { return ordered_json{{"SpecialToken", {{"id", bos_text}, {"type_id", type}}}}; };
  const auto text = [](const char* name, int type) {
    return ordered_json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  ordered_json out = {{"type", "TemplateProcessing"}};
  out["single"] = ordered_json::array({token(0), text("A", 0)});
  out["pair"] = ordered_json::array({token(0), text("A", 0), token(1), text("B", 1)});
  out["special_tokens"][bos_text] = {{"id", bos_text}, {"ids", {bos_id}}, {"tokens", {bos_text}}};
  return out;
}
}  // namespace

std::vector<Pair> find_merges(const std::vector<std::string>& texts, int64_t count) {
  MergeFinder finder(count_words(texts));
  std::vector<Pair> merges;
  while (static_cast<int64_t>(merges.size()) < count) {
    const std::optional<Pair> best = finder.best();
    if (!best) break;
    finder.merge(*best, static_cast<int32_t>(fixed_bpe_tokens + static_cast<int64_t>(merges.size())));
    merges.push_back(*best);
  }
  return merges;
}

NamedFiles bpe_files(const std::vector<Pair>& merges) {
  ordered_json tokenizer = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  tokenizer["added_tokens"] = ordered_json::array({added_token(0, bos_text), added_token(1, eos_text)});
  tokenizer["normalizer"] = nullptr;
  const ordered_json split = {
      {"type", "Split"}, {"pattern", {{"Regex", qwen2_pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const ordered_json bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", ordered_json::array({split, bytes})}};
  tokenizer["post_processor"] = post_processor();
  tokenizer["decoder"] = bytes;
  tokenizer["model"] = model_of(merges);

  ordered_json config = {{"added_tokens_decoder", {{"0", special_token(bos_text)}, {"1", special_token(eos_text)}}}};
  config["bos_token"] = bos_text;
  config["eos_token"] = eos_text;
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return {{tokenizer_json_file, tokenizer.dump(1) + "\n"}, {tokenizer_config_file, config.dump(2) + "\n"}};
}

}  // namespace strand
