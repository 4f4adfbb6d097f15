#include "export/tensor_map.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "export/row_order.h"

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
    case Size::values:
      return m.num_heads * m.value_head_dim;
    case Size::query_latent:
      return m.q_latent;
    case Size::key_latent:
      return m.kv_latent;
    case Size::latent_and_key:
      return m.kv_latent + m.rope_head_dim;
    case Size::keys_and_values:
      return m.num_heads * (m.nope_head_dim + m.value_head_dim);
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

int64_t sum_of(const std::vector<Size>& sizes, const Config& c) {
  int64_t sum = 0;
  for (const Size size : sizes) sum += extent(size, c);
  return sum;
}

MappedTensor at(const TensorRule& rule, const Config& c, int64_t layer, int64_t expert) {
  MappedTensor t{.rule = &rule,
                 .ours = name_at(rule.ours, layer, expert),
                 .theirs = name_at(rule.theirs, layer, expert),
                 .our_shape = {extent(rule.rows, c)},
                 .their_shape = {},
                 .first_row = sum_of(rule.rows_above, c),
                 .layer = layer,
                 .expert = expert};
  if (rule.columns != Size::none) t.our_shape.push_back(extent(rule.columns, c));
  t.their_shape = t.our_shape;
  t.their_shape[0] += t.first_row + sum_of(rule.rows_below, c);
  if (rule.layout == Layout::row) t.their_shape.insert(t.their_shape.begin(), 1);
  const ModelConfig& m = c.model;
  if (rule.layout == Layout::latent_keys) t.their_shape = {m.num_heads, m.kv_latent, m.nope_head_dim};
  if (rule.layout == Layout::latent_values) t.their_shape = {m.num_heads, m.value_head_dim, m.kv_latent};
  return t;
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
}  // namespace

int64_t columns_of(const MappedTensor& t) {
  return t.our_shape.size() > 1 ? t.our_shape[1] : 1;
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

std::vector<MappedTensor> map_tensors(const std::vector<TensorRule>& rules, const Config& config) {
  std::vector<MappedTensor> tensors;
  for (const TensorRule& rule : rules) {
    if (rule.applies && !rule.applies(config)) continue;
    const Range layers = layers_of(rule.scope, config);
    const int64_t experts = rule.scope == Scope::expert ? config.moe.num_experts : 1;
    for (int64_t n = layers.begin; n < layers.end; ++n)
      for (int64_t e = 0; e < experts; ++e) tensors.push_back(at(rule, config, n, e));
  }
  // Tensors are ordered by layer, then by expert, and then by rule, so that a shard holds tensors that belong together.
  // The rules are in one vector, so their addresses have their order.
  const auto place = [](const MappedTensor& t) {
    return std::tuple(t.rule->scope == Scope::model ? int64_t{-1} : t.layer, t.expert, t.rule);
  };
  std::sort(tensors.begin(), tensors.end(),
            [&](const MappedTensor& a, const MappedTensor& b) { return place(a) < place(b); });
  return tensors;
}

ElementSource source_of(const MappedTensor& t, const Config& config, const TensorSource& source) {
  const TensorSource::Item& item = source.at(t.ours);
  require(item.entry->shape == t.our_shape && is_readable(item.entry->dtype),
          "{}: tensor {} is {} {}, which should be {} {}", item.file->path(), t.ours, item.entry->dtype,
          shape_text(item.entry->shape), "F32", shape_text(t.our_shape));
  return {item.bytes(), item.entry->dtype, columns_of(t), their_rows(t.rule->layout, config.model),
          their_elements(t.rule->layout, config.model)};
}

std::vector<NamedTensor> tensors_for_export(const Family& family, const Config& config, const TensorSource& source,
                                            DType dtype) {
  std::vector<NamedTensor> out;
  size_t used = 0;
  for (const MappedTensor& t : map_tensors(family.tensors, config)) {
    require(t.our_shape == t.their_shape || t.rule->layout == Layout::row,
            "{} is a part of {}, and {} is only read, not written", t.ours, t.theirs, family.class_name);
    const DType stored = t.rule->storage == Storage::always_f32 ? DType::f32 : dtype;
    if (t.ours.empty()) {
      out.push_back(constant(t, stored));
      continue;
    }
    out.push_back(converted(t.theirs, t.their_shape, stored, source_of(t, config, source)));
    ++used;
  }
  require(used == source.items().size(), "the checkpoint holds {} tensors, of which {} has a place for {}",
          source.items().size(), family.class_name, used);
  return out;
}

}  // namespace strand::hf
