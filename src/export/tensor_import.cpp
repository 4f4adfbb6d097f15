#include "export/tensor_import.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "export/element_reader.h"
#include "export/row_order.h"
#include "export/tensor_map.h"

namespace strand::hf {

namespace {
const std::string head_name = "lm_head.weight";

/// The name of the embedding in the files of a class.
const std::string& embedding_of(const Family& family) {
  const auto embedding = std::find_if(family.tensors.begin(), family.tensors.end(),
                                      [](const TensorRule& rule) { return rule.ours == "embed_tokens.weight"; });
  return embedding->theirs;
}

/// The first few of the names, as text for a message.
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t most = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) text += (i > 0 ? ", " : "") + names[i];
  return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}

/// Throws Error unless the tensor has this shape and a type that can be read.
void require_form(const TensorSource::Item& item, const std::vector<int64_t>& shape) {
  require(is_readable(item.entry->dtype),
          "{}: tensor {} is {}, expected F32, BF16, F16 or F64; take the model's files in one of these types",
          item.file->path(), item.entry->name, item.entry->dtype);
  require(item.entry->shape == shape, "{}: tensor {} has shape {}, the model needs {}", item.file->path(),
          item.entry->name, shape_text(item.entry->shape), shape_text(shape));
}

/// Finds the tensors of a class under any of their names, and remembers which ones were used.
class ForeignTensors {
 public:
  ForeignTensors(const TensorSource& source, const Config& config)
      : source_(source), experts_(config.moe.num_experts) {}

  /// The elements of `t` in the order of our model. When the tensor is not there, the dtype is empty.
  ElementSource find(const MappedTensor& t) {
    if (const auto* item = item_named(t.theirs)) return whole(t, *item);
    for (const std::string& alias : t.rule->aliases)
      if (const auto* item = item_named(name_at(alias, t.layer, t.expert))) return whole(t, *item);
    const Fused& fused = t.rule->fused;
    if (fused.name.empty()) return {};
    if (const auto* item = item_named(name_at(fused.name, t.layer, t.expert))) return slice(t, *item);
    return {};
  }

  const std::set<std::string>& used() const { return used_; }

 private:
  const TensorSource::Item* item_named(const std::string& name) {
    const auto found = source_.items().find(name);
    if (found == source_.items().end()) return nullptr;
    used_.insert(name);
    return &found->second;
  }

  static ElementSource whole(const MappedTensor& t, const TensorSource::Item& item) {
    const bool flat = t.rule->layout == Layout::row && item.entry->shape == t.our_shape;
    require_form(item, flat ? t.our_shape : t.their_shape);
    if (t.rule->rows_above.empty() && t.rule->rows_below.empty())
      return {item.bytes(), item.entry->dtype, columns_of(t)};
    const size_t row = item.bytes().size() / static_cast<size_t>(t.their_shape[0]);
    return {item.bytes().subspan(static_cast<size_t>(t.first_row) * row, static_cast<size_t>(t.our_shape[0]) * row),
            item.entry->dtype, columns_of(t)};
  }

  ElementSource slice(const MappedTensor& t, const TensorSource::Item& item) const {
    const Fused& fused = t.rule->fused;
    require_form(item, {experts_, fused.parts * t.our_shape[0], t.our_shape[1]});
    const size_t bytes = item.bytes().size() / static_cast<size_t>(experts_ * fused.parts);
    const auto index = static_cast<size_t>(t.expert * fused.parts + fused.part);
    return {item.bytes().subspan(index * bytes, bytes), item.entry->dtype, t.our_shape[1]};
  }

  const TensorSource& source_;
  int64_t experts_;
  std::set<std::string> used_;
};

int64_t elements_of(const MappedTensor& t) {
  int64_t n = 1;
  for (int64_t d : t.our_shape) n *= d;
  return n;
}

/// Whether `holds(begin, count)` for every piece of `elements` elements.
template <typename Holds>
bool holds_for_pieces(int64_t elements, const Holds& holds) {
  for (int64_t begin = 0; begin < elements; begin += compared_elements)
    if (!holds(begin, std::min(elements - begin, compared_elements))) return false;
  return true;
}

bool all_equal(const ElementSource& source, int64_t elements, float value) {
  std::vector<float> piece(static_cast<size_t>(compared_elements));
  return holds_for_pieces(elements, [&](int64_t begin, int64_t count) {
    read_elements(source, begin, count, DType::f32, piece.data());
    return std::all_of(piece.begin(), piece.begin() + count, [&](float x) { return x == value; });
  });
}

using NamesByReason = std::map<std::string, std::vector<std::string>>;

std::vector<std::string> notes_about(const NamesByReason& left_out) {
  std::vector<std::string> notes;
  for (const auto& [reason, names] : left_out)
    notes.push_back(
        fmt::format("left out: {} tensor{}, {}: {}", names.size(), names.size() > 1 ? "s" : "", reason, listed(names)));
  return notes;
}

/// The reason why the model does not need a tensor of this name; empty when there is none.
std::string reason_to_leave_out(const std::string& name, const LeftoverContext& context, const Family& family) {
  if (name.ends_with("rotary_emb.inv_freq")) return "buffers of old versions that the configuration determines";
  if (name == head_name && context.config.model.tied_embeddings) return "a copy of " + embedding_of(family);
  for (const LeftoverRule& rule : family.leftovers)
    if (rule.matches(name, context)) return rule.what;
  return "";
}

/// Sorts the tensors that no rule has used into `left_out`, by reason. Throws Error for a tensor without a reason.
void account_for_the_rest(const ForeignConfig& foreign, const TensorSource& source, const std::set<std::string>& used,
                          NamesByReason& left_out) {
  const LeftoverContext context{foreign.config, source, foreign.prediction_layers};
  std::vector<std::string> strangers;
  bool past_the_last = false, scales = false;
  for (const auto& [name, item] : source.items()) {
    if (used.contains(name)) continue;
    const std::string reason = reason_to_leave_out(name, context, *foreign.family);
    (reason.empty() ? strangers : left_out[reason]).push_back(name);
    past_the_last |= reason.empty() && layer_in(name) >= foreign.config.model.num_layers;
    scales |= reason.empty() && name.ends_with("_scale_inv");
  }
  std::string hint;
  if (past_the_last) hint = fmt::format(" (config.json says num_hidden_layers {})", foreign.config.model.num_layers);
  if (scales) hint = " (they scale weights in fp8, which our models do not have; take the model's files in bf16)";
  require(strangers.empty(), "tensors that our models have no place for: {}{}", listed(strangers), hint);
}
}  // namespace

void require_plausible(const Family& family, const Config& config, const TensorSource& source) {
  const auto there = static_cast<int64_t>(source.items().size());
  int64_t claimed = config.model.num_layers;
  for (const TensorRule& rule : family.tensors) {
    if (rule.scope != Scope::expert) continue;
    const bool stacked = source.items().contains(name_at(rule.fused.name, config.model.num_layers - 1, 0));
    if (!stacked)
      claimed = std::max(claimed, config.moe.num_experts * (config.model.num_layers - config.model.dense_layers));
  }
  require(claimed <= there, "the configuration speaks of {} layers and {} experts, but there are {} tensors only",
          config.model.num_layers, config.moe.num_experts, there);
}

namespace {
bool same_elements(const ElementSource& a, const ElementSource& b, int64_t elements) {
  std::vector<float> of_a(static_cast<size_t>(compared_elements)), of_b(of_a.size());
  return holds_for_pieces(elements, [&](int64_t begin, int64_t count) {
    read_elements(a, begin, count, DType::f32, of_a.data());
    read_elements(b, begin, count, DType::f32, of_b.data());
    return std::equal(of_a.begin(), of_a.begin() + count, of_b.begin());
  });
}
}  // namespace

std::string settle_head(const Family& family, Config& config, const TensorSource& source) {
  const std::string& embedding_name = embedding_of(family);
  const auto embedding = source.items().find(embedding_name), head = source.items().find(head_name);
  if (!config.model.tied_embeddings || embedding == source.items().end() || head == source.items().end()) return "";
  const int64_t rows = config.model.vocab_size, columns = config.model.hidden_size;
  for (const auto& tensor : {embedding->second, head->second}) require_form(tensor, {rows, columns});
  const auto elements = [&](const TensorSource::Item& item) {
    return ElementSource{item.bytes(), item.entry->dtype, columns};
  };
  if (same_elements(elements(embedding->second), elements(head->second), rows * columns)) return "";
  config.model.tied_embeddings = false;
  return fmt::format(
      "tie_word_embeddings is true, but {} differs from {}: imported as a model that is not tied, with both, as "
      "transformers 5 loads it",
      head_name, embedding_name);
}

ImportedTensors tensors_for_import(const ForeignConfig& foreign, const TensorSource& source) {
  const auto& [family, config, prediction_layers] = foreign;
  ForeignTensors theirs(source, config);
  ImportedTensors out;
  std::vector<std::string> missing;
  NamesByReason left_out;
  for (const MappedTensor& t : map_tensors(family->tensors, config)) {
    ElementSource elements = theirs.find(t);
    if (elements.dtype.empty()) {
      if (missing.empty() || missing.back() != t.theirs) missing.push_back(t.theirs);  // of which several are parts
    } else if (t.ours.empty()) {
      // The gate of a shared expert without effect may have any value, because it multiplies zeros.
      require(t.rule->constant != 0 || all_equal(elements, elements_of(t), 0),
              "tensor {} is not zero, and our models have no place for it", t.theirs);
      left_out["without effect on this model, because zero or a factor of zeros"].push_back(t.theirs);
    } else {
      elements.row = our_rows(t.rule->layout, config.model);
      out.tensors.push_back(converted(t.ours, t.our_shape, DType::f32, std::move(elements)));
    }
  }
  require(missing.empty(), "tensors of {} that are missing: {}", family->class_name, listed(missing));
  account_for_the_rest(foreign, source, theirs.used(), left_out);
  out.notes = notes_about(left_out);
  if (config.model.tied_embeddings && theirs.used().contains(head_name))
    out.notes.push_back(
        fmt::format("{} is not there: {}, which is tied to it, is taken for both", embedding_of(*family), head_name));
  return out;
}

bool is_all_zero(const Family& family, const Config& config, const TensorSource& source, const std::string& theirs) {
  ForeignTensors tensors(source, config);
  bool found = false;
  for (const MappedTensor& t : map_tensors(family.tensors, config)) {
    if (t.rule->theirs != theirs) continue;
    const ElementSource elements = tensors.find(t);
    if (elements.dtype.empty() || !all_equal(elements, elements_of(t), 0)) return false;
    found = true;
  }
  return found;
}

}  // namespace strand::hf
