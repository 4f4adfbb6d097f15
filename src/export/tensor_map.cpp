#include "export/tensor_map.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/log.h"
#include "export/element_reader.h"

namespace strand::hf {

namespace {
int64_t extent(Size size, const Config& c) {
  const ModelConfig& m = c.model;
  switch (size) {
    case Size::none:
    case Size::one:
      return 1;
    case Size::vocab:
      return m.vocab_size;
    case Size::hidden:
      return m.hidden_size;
    case Size::queries:
      return m.num_heads * m.head_dim;
    case Size::keys:
      return m.num_kv_heads * m.head_dim;
    case Size::head:
      return m.head_dim;
    case Size::experts:
      return c.moe.num_experts;
    case Size::expert_ffn:
      return c.moe.expert_ffn;
    case Size::shared_ffn:
      return c.moe.shared_experts * c.moe.expert_ffn;
    case Size::dense_ffn:
      return m.dense_ffn;
    case Size::dead_ffn:
      return dead_shared_width;
  }
  return 0;
}

struct Range {
  int64_t begin, end;
};

Range layers_of(Scope scope, const Config& c) {
  switch (scope) {
    case Scope::model:
      return {0, 1};
    case Scope::every_layer:
      return {0, c.model.num_layers};
    case Scope::dense_layer:
      return {0, c.model.dense_layers};
    case Scope::moe_layer:
    case Scope::expert:
      return {c.model.dense_layers, c.model.num_layers};
  }
  return {0, 0};
}

MappedTensor at(const TensorRule& rule, const Config& c, int64_t layer, int64_t expert) {
  MappedTensor t{
      &rule, name_at(rule.ours, layer, expert), name_at(rule.theirs, layer, expert), {extent(rule.rows, c)}, {}, layer,
      expert};
  if (rule.columns != Size::none) t.our_shape.push_back(extent(rule.columns, c));
  t.their_shape = t.our_shape;
  if (rule.layout == Layout::row) t.their_shape.insert(t.their_shape.begin(), 1);
  return t;
}

int64_t columns_of(const MappedTensor& t) {
  return t.our_shape.size() > 1 ? t.our_shape[1] : 1;
}

/// Row i of a head lies at 2i in their order and row i + A/2 at 2i + 1.
RowOrder their_rows(const TensorRule& rule, int64_t head) {
  if (rule.layout != Layout::rotary_interleaved) return {};
  return [head](int64_t row) {
    const int64_t first = row / head * head, i = row % head;
    return first + i / 2 + (i % 2) * (head / 2);
  };
}
RowOrder our_rows(const TensorRule& rule, int64_t head) {
  if (rule.layout != Layout::rotary_interleaved) return {};
  return [head](int64_t row) {
    const int64_t first = row / head * head, i = row % head, half = head / 2;
    return first + (i < half ? 2 * i : 2 * (i - half) + 1);
  };
}

NamedTensor converted(std::string name, std::vector<int64_t> shape, DType dtype, ElementSource source) {
  NamedTensor out;
  out.name = std::move(name);
  out.dtype = dtype;
  out.shape = std::move(shape);
  out.read = [source = std::move(source), dtype](void* host, size_t offset, size_t bytes) {
    const size_t size = size_of(dtype);
    read_elements(source, static_cast<int64_t>(offset / size), static_cast<int64_t>(bytes / size), dtype, host);
  };
  return out;
}

template <typename T>
void fill(void* host, size_t bytes, float value) {
  T* out = static_cast<T*>(host);
  std::fill(out, out + bytes / sizeof(T), T(value));
}

NamedTensor constant(const MappedTensor& t, DType dtype) {
  NamedTensor out;
  out.name = t.theirs;
  out.dtype = dtype;
  out.shape = t.their_shape;
  out.read = [value = t.rule->constant, dtype](void* host, size_t, size_t bytes) {
    dtype == DType::f32 ? fill<float>(host, bytes, value) : fill<bf16>(host, bytes, value);
  };
  return out;
}

/// Names in one message, the first few of them.
std::string listed(const std::vector<std::string>& names) {
  constexpr size_t most = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) text += (i > 0 ? ", " : "") + names[i];
  return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}
}  // namespace

std::string name_at(const std::string& pattern, int64_t layer, int64_t expert) {
  std::string name = pattern;
  const auto replace = [&](const char* what, int64_t by) {
    const size_t found = name.find(what);
    if (found != std::string::npos) name.replace(found, 3, std::to_string(by));
  };
  replace("{n}", layer);
  replace("{e}", expert);
  return name;
}

std::vector<MappedTensor> map_tensors(const Family& family, const Config& config) {
  std::vector<MappedTensor> tensors;
  for (const TensorRule& rule : family.tensors) {
    if (rule.applies && !rule.applies(config)) continue;
    const Range layers = layers_of(rule.scope, config);
    const int64_t experts = rule.scope == Scope::expert ? config.moe.num_experts : 1;
    for (int64_t n = layers.begin; n < layers.end; ++n)
      for (int64_t e = 0; e < experts; ++e) tensors.push_back(at(rule, config, n, e));
  }
  // Layer by layer, and within one by expert: shards then hold neighbours. Rules lie in one vector, in their order.
  const auto place = [](const MappedTensor& t) {
    return std::tuple(t.rule->scope == Scope::model ? int64_t{-1} : t.layer, t.expert, t.rule);
  };
  std::sort(tensors.begin(), tensors.end(),
            [&](const MappedTensor& a, const MappedTensor& b) { return place(a) < place(b); });
  return tensors;
}

std::vector<NamedTensor> tensors_for_export(const Family& family, const Config& config, const TensorSource& source,
                                            DType dtype) {
  std::vector<NamedTensor> out;
  size_t used = 0;
  for (const MappedTensor& t : map_tensors(family, config)) {
    const DType stored = t.rule->storage == Storage::always_f32 ? DType::f32 : dtype;
    if (t.ours.empty()) {
      out.push_back(constant(t, stored));
      continue;
    }
    const TensorSource::Item& item = source.at(t.ours);
    require(item.entry->shape == t.our_shape && is_readable(item.entry->dtype),
            "{}: tensor {} is {} {}, which should be {} {}", item.file->path(), t.ours, item.entry->dtype,
            shape_text(item.entry->shape), "F32", shape_text(t.our_shape));
    out.push_back(
        converted(t.theirs, t.their_shape, stored,
                  {item.bytes(), item.entry->dtype, columns_of(t), their_rows(*t.rule, config.model.head_dim)}));
    ++used;
  }
  require(used == source.items().size(), "the checkpoint holds {} tensors, of which {} has a place for {}",
          source.items().size(), family.class_name, used);
  return out;
}

namespace {
/// Finds a class's tensors under any of their names, and remembers which ones were asked for.
class ForeignTensors {
 public:
  ForeignTensors(const TensorSource& source, const Config& config)
      : source_(source), experts_(config.moe.num_experts) {}

  /// The elements of `t` in their order; empty dtype when it is not there.
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

  static void check(const TensorSource::Item& item, const std::vector<int64_t>& shape) {
    require(item.entry->shape == shape, "{}: tensor {} has shape {}, the model needs {}", item.file->path(),
            item.entry->name, shape_text(item.entry->shape), shape_text(shape));
    require(is_readable(item.entry->dtype), "{}: tensor {} is {}, expected F32, BF16, F16 or F64", item.file->path(),
            item.entry->name, item.entry->dtype);
  }

  static ElementSource whole(const MappedTensor& t, const TensorSource::Item& item) {
    const bool flat = t.rule->layout == Layout::row && item.entry->shape == t.our_shape;
    check(item, flat ? t.our_shape : t.their_shape);
    return {item.bytes(), item.entry->dtype, columns_of(t)};
  }

  ElementSource slice(const MappedTensor& t, const TensorSource::Item& item) const {
    const Fused& fused = t.rule->fused;
    check(item, {experts_, fused.parts * t.our_shape[0], t.our_shape[1]});
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

bool all_equal(const ElementSource& source, int64_t elements, float value) {
  std::vector<float> piece(size_t{1} << 16);
  for (int64_t begin = 0; begin < elements;) {
    const int64_t count = std::min(elements - begin, static_cast<int64_t>(piece.size()));
    read_elements(source, begin, count, DType::f32, piece.data());
    if (!std::all_of(piece.begin(), piece.begin() + count, [&](float x) { return x == value; })) return false;
    begin += count;
  }
  return true;
}

/// Tensors that hold nothing of the model: buffers that old versions wrote, the copy of a tied head, and the layers for
/// predicting several tokens, which come after the last one.
bool is_ignored(const std::string& name, const Config& config) {
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  if (name == "lm_head.weight") return config.model.tied_embeddings;
  const std::string prefix = "model.layers.";
  return name.starts_with(prefix) && std::strtoll(name.c_str() + prefix.size(), nullptr, 10) >= config.model.num_layers;
}

void account_for_the_rest(const TensorSource& source, const std::set<std::string>& used, const Config& config) {
  std::vector<std::string> strangers, ignored;
  for (const auto& [name, item] : source.items()) {
    if (used.contains(name)) continue;
    (is_ignored(name, config) ? ignored : strangers).push_back(name);
  }
  require(strangers.empty(), "tensors that our models have no place for: {}", listed(strangers));
  if (!ignored.empty()) log_info(fmt::format("not part of the model, left out: {}", listed(ignored)));
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

std::vector<NamedTensor> tensors_for_import(const Family& family, const Config& config, const TensorSource& source) {
  ForeignTensors theirs(source, config);
  std::vector<NamedTensor> out;
  std::vector<std::string> missing;
  for (const MappedTensor& t : map_tensors(family, config)) {
    ElementSource elements = theirs.find(t);
    if (elements.dtype.empty()) {
      missing.push_back(t.theirs);
    } else if (t.ours.empty()) {
      // The gate of a dead shared expert may have any value: it scales zeros.
      require(t.rule->constant != 0 || all_equal(elements, elements_of(t), 0),
              "tensor {} is not zero, and our models have no place for it", t.theirs);
    } else {
      elements.row = our_rows(*t.rule, config.model.head_dim);
      out.push_back(converted(t.ours, t.our_shape, DType::f32, std::move(elements)));
    }
  }
  require(missing.empty(), "tensors of {} that are missing: {}", family.class_name, listed(missing));
  account_for_the_rest(source, theirs.used(), config);
  return out;
}

bool is_all_zero(const Family& family, const Config& config, const TensorSource& source, const std::string& theirs) {
  ForeignTensors tensors(source, config);
  for (const TensorRule& rule : family.tensors) {
    if (rule.theirs != theirs) continue;
    const Range layers = layers_of(rule.scope, config);
    for (int64_t n = layers.begin; n < layers.end; ++n) {
      const MappedTensor t = at(rule, config, n, 0);
      const ElementSource elements = tensors.find(t);
      if (elements.dtype.empty() || !all_equal(elements, elements_of(t), 0)) return false;
    }
    return true;
  }
  return false;
}

}  // namespace strand::hf
