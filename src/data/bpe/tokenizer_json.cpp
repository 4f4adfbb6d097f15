#include "data/bpe/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/strict_json.h"
#include "data/bpe/byte_alphabet.h"
#include "data/bpe/json_place.h"

namespace strand {

namespace {
constexpr size_t max_stages = 64;  // they are applied one inside the other

/// Ids of so many tokens are below this. Some numbers may be left out, but a damaged file shall not fill the memory.
uint64_t end_of_ids(size_t tokens) {
  return std::min<uint64_t>(2 * uint64_t{tokens} + 65536, uint64_t{1} << 24);
}

// ---- The normalizer ------------------------------------------------------------------------------------------------

/// A pattern is {"String": text} or {"Regex": expression}.
Regex read_pattern(const JsonPlace& place) {
  place.require_only({"String", "Regex"});
  const std::optional<JsonPlace> text = place.find("String"), expression = place.find("Regex");
  if (text.has_value() == expression.has_value()) place.refuse("either \"String\" or \"Regex\" is needed");
  if (expression) return Regex(expression->text(), expression->name());
  if (text->text().empty()) text->refuse("an empty text splits nothing");
  return Regex(quoted_pattern(text->text()), text->name());
}

void read_normalizer(const JsonPlace& place, std::vector<NormalizerStep>& steps) {
  const std::string type = place.at("type").text();
  if (type == "Sequence") {
    place.require_only({"type", "normalizers"});
    for (const JsonPlace& step : place.at("normalizers").items()) read_normalizer(step, steps);
  } else if (type == "NFC") {
    place.require_only({"type"});
    steps.push_back(ComposeCharacters{});
  } else if (type == "Replace") {
    place.require_only({"type", "pattern", "content"});
    steps.push_back(ReplaceMatches{read_pattern(place.at("pattern")), place.at("content").text()});
  } else if (type == "Prepend") {
    place.require_only({"type", "prepend"});
    steps.push_back(PrependText{place.at("prepend").text()});
  } else {
    place.refuse(fmt::format("the normalizer \"{}\" is not understood; NFC, Replace, Prepend and Sequence are", type));
  }
}

// ---- The pre-tokenizer ---------------------------------------------------------------------------------------------

SplitBehavior read_behavior(const JsonPlace& place) {
  const std::string name = place.text();
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  place.refuse(
      fmt::format("the behavior \"{}\" is not understood; Isolated, Removed and MergedWithPrevious are", name));
}

/// Whether a pre-tokenizer ends with spelling the bytes of its pieces.
enum class Spelled { no, yes };

Spelled read_byte_level(const JsonPlace& place, std::vector<SplitterStage>& stages) {
  place.require_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  place.flag_or("trim_offsets", true);  // this concerns offsets alone
  if (place.flag_or("add_prefix_space", true)) stages.push_back(PrefixSpaceStage{});
  if (place.flag_or("use_regex", true)) stages.push_back(SplitStage{Regex(gpt2_pattern, place.name())});
  return Spelled::yes;
}

Spelled read_pre_tokenizer(const JsonPlace& place, std::vector<SplitterStage>& stages) {
  const std::string type = place.at("type").text();
  if (type == "ByteLevel") return read_byte_level(place, stages);
  if (type == "Sequence") {
    place.require_only({"type", "pretokenizers"});
    Spelled spelled = Spelled::no;
    for (const JsonPlace& stage : place.at("pretokenizers").items()) {
      if (spelled == Spelled::yes) stage.refuse("nothing may follow ByteLevel");
      spelled = read_pre_tokenizer(stage, stages);
    }
    return spelled;
  }
  if (type == "Split") {
    place.require_only({"type", "pattern", "behavior", "invert"});
    stages.push_back(SplitStage{read_pattern(place.at("pattern")), read_behavior(place.at("behavior")),
                                place.flag_or("invert", false)});
  } else if (type == "Digits") {
    place.require_only({"type", "individual_digits"});
    const bool individual = place.flag_or("individual_digits", false);
    stages.push_back(SplitStage{Regex(individual ? R"(\p{N})" : R"(\p{N}+)", place.name())});
  } else {
    place.refuse(
        fmt::format("the pre-tokenizer \"{}\" is not understood; Split, Digits, ByteLevel and Sequence are", type));
  }
  return Spelled::no;
}

// ---- The model -----------------------------------------------------------------------------------------------------

/// Throws Error unless the member is missing, null or empty.
void require_absent(const JsonPlace& place, const char* key) {
  const std::optional<JsonPlace> found = place.find(key);
  if (found && !(found->value().is_string() && found->text().empty())) found->refuse("only null is understood");
}

std::vector<std::string> read_vocabulary(const JsonPlace& place) {
  if (!place.value().is_object() || place.value().empty()) place.refuse("no object with tokens");
  std::vector<std::string> spellings;
  const uint64_t end = end_of_ids(place.value().size());
  for (const auto& [spelling, id] : place.value().items()) {
    const auto refuse = [&, &s = spelling](const std::string& reason) {
      place.refuse(fmt::format("\"{}\": {}", s, reason));
    };
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= end)
      refuse(fmt::format("the id is no whole number below {}", end));
    if (spelling.empty()) refuse("a token without text");
    const auto at = id.get<size_t>();
    if (at >= spellings.size()) spellings.resize(at + 1);
    if (!spellings[at].empty()) refuse("another token has the same id");
    spellings[at] = spelling;
  }
  return spellings;
}

class MergeReader {
 public:
  explicit MergeReader(const std::vector<std::string>& spellings) {
    for (size_t id = 0; id < spellings.size(); ++id)
      if (!spellings[id].empty()) ids_.emplace(spellings[id], static_cast<int32_t>(id));
  }

  /// A merge is "left right" or ["left", "right"].
  std::vector<Merge> read(const JsonPlace& place) const {
    if (!place.value().is_array()) place.refuse("no array");
    std::vector<Merge> merges;
    merges.reserve(place.value().size());
    for (size_t rank = 0; rank < place.value().size(); ++rank) {
      const nlohmann::json& merge = place.value()[rank];
      const auto refuse = [&](const std::string& reason) { place.refuse(fmt::format("entry {}: {}", rank, reason)); };
      if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
          refuse(fmt::format("\"{}\" is not two tokens with one space between them", text));
        merges.push_back(merge_of(text.substr(0, space), text.substr(space + 1), refuse));
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        merges.push_back(merge_of(merge[0].get<std::string>(), merge[1].get<std::string>(), refuse));
      } else {
        refuse("neither a text nor two texts");
      }
    }
    return merges;
  }

 private:
  template <typename Refuse>
  Merge merge_of(const std::string& left, const std::string& right, const Refuse& refuse) const {
    const auto id_of = [&](const std::string& token) {
      const auto found = ids_.find(token);
      if (found == ids_.end()) refuse(fmt::format("the token \"{}\" is not in the vocabulary", token));
      return found->second;
    };
    return {id_of(left), id_of(right), id_of(left + right)};
  }

  std::unordered_map<std::string_view, int32_t> ids_;
};

/// Text would be lost where a byte that UTF-8 has is no token.
void require_all_bytes(const JsonPlace& vocabulary) {
  for (int byte = 0; byte < 256; ++byte) {
    const bool occurs = byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
    const std::string& spelling = spelled_byte(static_cast<uint8_t>(byte));
    if (occurs && !vocabulary.value().contains(spelling))
      vocabulary.refuse(
          fmt::format("the byte {:#04x} (\"{}\") has no token, and there is no unk_token", byte, spelling));
  }
}

void read_model(const JsonPlace& place, TokenizerJson& out) {
  place.require_only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                      "byte_fallback", "ignore_merges", "vocab", "merges"});
  const std::string type = place.text_or("type", "BPE");
  if (type != "BPE") place.refuse(fmt::format("the model \"{}\" is not understood; BPE is", type));
  const std::optional<JsonPlace> dropout = place.find("dropout");
  if (dropout && dropout->value() != 0.0) dropout->refuse("merges that are left out at random are not understood");
  require_absent(place, "continuing_subword_prefix");
  require_absent(place, "end_of_word_suffix");
  const JsonPlace vocabulary = place.at("vocab");
  out.spellings = read_vocabulary(vocabulary);
  out.merges = MergeReader(out.spellings).read(place.at("merges"));
  out.options.ignore_merges = place.flag_or("ignore_merges", false);
  out.options.fuse_unknown = place.flag_or("fuse_unk", false);
  if (const auto unknown = place.find("unk_token")) {
    const auto found = vocabulary.value().find(unknown->text());
    if (found == vocabulary.value().end()) unknown->refuse(fmt::format("\"{}\" is not in vocab", unknown->text()));
    out.options.unknown = found->get<int32_t>();
  }
  if (place.flag_or("byte_fallback", false)) place.at("byte_fallback").refuse("the bytes are tokens already");
  if (out.options.unknown < 0) require_all_bytes(vocabulary);
}

// ---- Added tokens, post-processor, decoder -------------------------------------------------------------------------

AddedToken read_added_token(const JsonPlace& place) {
  place.require_only({"id", "content", "special", "single_word", "lstrip", "rstrip", "normalized"});
  AddedToken token{place.at("id").id(), place.at("content").text()};
  token.special = place.flag_or("special", false);
  token.single_word = place.flag_or("single_word", false);
  token.lstrip = place.flag_or("lstrip", false);
  token.rstrip = place.flag_or("rstrip", false);
  token.normalized = place.flag_or("normalized", !token.special);
  if (token.content.empty()) place.at("content").refuse("a token without text");
  return token;
}

void read_added_tokens(const JsonPlace& place, const JsonPlace& vocabulary, TokenizerJson& out) {
  std::unordered_set<std::string> contents;
  std::unordered_set<int32_t> ids;
  const std::vector<JsonPlace> items = place.items();
  const uint64_t end = end_of_ids(out.spellings.size() + items.size());
  for (const JsonPlace& item : items) {
    const AddedToken token = read_added_token(item);
    if (static_cast<uint64_t>(token.id) >= end) item.at("id").refuse(fmt::format("the id is not below {}", end));
    if (!contents.insert(token.content).second) item.refuse(fmt::format("\"{}\" is added twice", token.content));
    if (!ids.insert(token.id).second) item.refuse(fmt::format("another added token has the id {}", token.id));
    const auto known = vocabulary.value().find(token.content);
    const bool other_id = known != vocabulary.value().end() && known->get<int32_t>() != token.id;
    if (other_id) item.refuse(fmt::format("\"{}\" has the id {} in model.vocab", token.content, known->get<int32_t>()));
    const auto at = static_cast<size_t>(token.id);
    const bool taken = at < out.spellings.size() && !out.spellings[at].empty() && out.spellings[at] != token.content;
    if (taken) item.refuse(fmt::format("the id {} is that of \"{}\" in model.vocab", token.id, out.spellings[at]));
    out.added.push_back(token);
  }
}

/// The ids of a token in a template: those of its entry in special_tokens.
std::vector<int32_t> template_ids(const JsonPlace& special, const std::string& name, size_t vocabulary) {
  std::vector<int32_t> ids;
  for (const JsonPlace& id : special.at(name.c_str()).at("ids").items()) {
    if (static_cast<size_t>(id.id()) >= vocabulary) id.refuse("the id is outside the vocabulary");
    ids.push_back(id.id());
  }
  return ids;
}

/// TemplateProcessing for a single text: special tokens, the text ("A"), and special tokens.
void read_template(const JsonPlace& place, size_t vocabulary, TokenizerJson& out) {
  place.require_only({"type", "single", "pair", "special_tokens"});
  bool after = false;
  for (const JsonPlace& item : place.at("single").items()) {
    item.require_only({"SpecialToken", "Sequence"});
    if (item.find("Sequence")) {
      if (after) item.refuse("a text may be there once");
      after = true;
      continue;
    }
    const std::string name = item.at("SpecialToken").at("id").text();
    for (const int32_t id : template_ids(place.at("special_tokens"), name, vocabulary))
      (after ? out.after_text : out.before_text).push_back(id);
  }
  if (!after) place.at("single").refuse("the text itself is not in it");
  if (out.before_text.size() > 1 || out.after_text.size() > 1)
    place.at("single").refuse("more than one token before or after the text is not understood");
}

void read_post_processor(const JsonPlace& place, size_t vocabulary, TokenizerJson& out) {
  const std::string type = place.at("type").text();
  if (type == "Sequence") {
    place.require_only({"type", "processors"});
    for (const JsonPlace& part : place.at("processors").items()) read_post_processor(part, vocabulary, out);
  } else if (type == "TemplateProcessing") {
    if (!out.before_text.empty() || !out.after_text.empty()) place.refuse("a second template is not understood");
    read_template(place, vocabulary, out);
  } else if (type != "ByteLevel") {  // this concerns offsets alone
    place.refuse(fmt::format(
        "the post-processor \"{}\" is not understood; TemplateProcessing, ByteLevel and Sequence are", type));
  }
}

void require_byte_decoder(const JsonPlace& place) {
  const std::string type = place.at("type").text();
  if (type != "ByteLevel") place.refuse(fmt::format("the decoder \"{}\" is not understood; ByteLevel is", type));
}

/// Whether the file is the translation of a SentencePiece model, as LLaMA-2 and Mixtral have it: characters with
/// "▁" for spaces, where byte-level BPE has bytes.
bool is_sentencepiece(const JsonPlace& top) {
  const std::optional<JsonPlace> splitter = top.find("pre_tokenizer"), model = top.find("model");
  const auto type_of = [](const std::optional<JsonPlace>& place) {
    return place && place->value().is_object() ? place->text_or("type", "") : "";
  };
  if (type_of(splitter) == "Metaspace") return true;
  return !splitter && type_of(model) == "BPE" && model->flag_or("byte_fallback", false);
}

size_t vocabulary_size(const TokenizerJson& tokenizer) {
  size_t size = tokenizer.spellings.size();
  for (const AddedToken& token : tokenizer.added) size = std::max(size, static_cast<size_t>(token.id) + 1);
  return size;
}
}  // namespace

TokenizerJson TokenizerJson::parse(std::string_view text, const std::string& file) {
  const nlohmann::json content = parse_strict_json(text, file);
  const JsonPlace top(content, file);
  // How texts are cut or filled up to one length ("truncation", "padding") concerns batches, and transformers sets it
  // anew for each of them.
  top.require_only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                    "decoder", "model"});
  const std::string version = top.text_or("version", "1.0");
  if (version != "1.0") top.at("version").refuse(fmt::format("version \"{}\" is not understood; 1.0 is", version));

  TokenizerJson out;
  if (is_sentencepiece(top))
    top.refuse(
        "this is the tokenizer.json of a SentencePiece model, and only those of byte-level BPE are read; take the "
        "tokenizer.model of the same tokenizer, which the model's publisher has: put it beside this file to import a "
        "model, or name it as data.tokenizer or --tokenizer");
  const JsonPlace model = top.at("model");
  const std::optional<JsonPlace> splitter = top.find("pre_tokenizer");
  const bool spelled = splitter && read_pre_tokenizer(*splitter, out.splitter) == Spelled::yes;
  if (!spelled) top.refuse("no byte-level tokenizer: pre_tokenizer has no ByteLevel");
  if (out.splitter.size() > max_stages) splitter->refuse(fmt::format("more than {} stages", max_stages));
  if (const auto normalizer = top.find("normalizer")) read_normalizer(*normalizer, out.normalizer);
  read_model(model, out);
  if (const auto added = top.find("added_tokens")) read_added_tokens(*added, model.at("vocab"), out);
  if (const auto post = top.find("post_processor")) read_post_processor(*post, vocabulary_size(out), out);
  require_byte_decoder(top.at("decoder"));
  return out;
}

}  // namespace strand
