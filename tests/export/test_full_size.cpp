// The four backbones at their real size, from files that hold nothing but their header: the data is a hole in the file,
// which takes no room on the disk and reads as zeros. And what a conversion takes of memory: little, whatever the size.
#include <sys/resource.h>
#include <unistd.h>

#include "config/model_size.h"
#include "export/gguf_export.h"
#include "export/hf_export.h"
#include "export/hf_import.h"
#include "export/tensor_import.h"
#include "export/tensor_map.h"
#include "models.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

namespace {
struct Backbone {
  std::string config, class_name;
};
const std::vector<Backbone> backbones = {{"qwen3_30b_a3b", "Qwen3MoeForCausalLM"},
                                         {"deepseek_moe_16b", "DeepseekForCausalLM"},
                                         {"deepseek_v2_lite", "DeepseekV2ForCausalLM"},
                                         {"ling_mini_2", "BailingMoeV2ForCausalLM"}};

/// A directory with the tensors of a model in bf16, all zero.
struct SparseModel {
  TemporaryDirectory dir;
  Config config;
  const hf::Family& family;

  explicit SparseModel(const Backbone& backbone) : SparseModel(backbone, config_of(backbone)) {}
  SparseModel(const Backbone& backbone, const Config& its_config)
      : config(its_config), family(hf::family_of_class(backbone.class_name, "")) {
    std::map<std::string, TensorEntry> entries;
    for (const hf::MappedTensor& t : hf::map_tensors(family.tensors, config)) {
      TensorEntry& entry = entries[t.theirs];
      entry.name = t.theirs;
      entry.type = DType::bf16;
      entry.shape = t.their_shape;
    }
    std::vector<TensorEntry> tensors;
    for (auto& [name, entry] : entries) tensors.push_back(entry);
    const std::string header = layout_safetensors(tensors, {}, "header");
    uint64_t data = 0;
    for (const TensorEntry& t : tensors) data = std::max(data, t.end);
    put(path(), header);
    REQUIRE(truncate(path().c_str(), static_cast<off_t>(header.size() + data)) == 0);
    put(dir / "hf/config.json", hf::config_json(family, config, {}, DType::bf16));
  }
  static Config config_of(const Backbone& backbone) {
    return load_config(std::string(STRAND_SOURCE_DIR) + "/configs/backbones/" + backbone.config + ".yaml");
  }
  std::string path() {
    fs::create_directories(dir / "hf");
    return dir / "hf/model.safetensors";
  }
};

/// A line of /proc/self/status, in bytes.
uint64_t status_bytes(const std::string& line) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    uint64_t kibibytes = 0;
    if (word == line && status >> kibibytes) return kibibytes << 10;
  }
  throw std::runtime_error("/proc/self/status has no " + line);
}

/// What this process has in memory that belongs to no file.
uint64_t anonymous_bytes() {
  return status_bytes("RssAnon:");
}

/// While it lives, this process gets no more than so many bytes of memory that belongs to no file.
class MemoryLimit {
 public:
  explicit MemoryLimit(uint64_t more_bytes) {
    if (getrlimit(RLIMIT_DATA, &before_) != 0) throw std::runtime_error("getrlimit");
    const rlimit limit{status_bytes("VmData:") + more_bytes, before_.rlim_max};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) throw std::runtime_error("setrlimit");
  }
  ~MemoryLimit() { setrlimit(RLIMIT_DATA, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

/// A disk on which zeros take no room.
class HollowLayer : public UnsyncedLayer {
 public:
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    const char* const begin = static_cast<const char*>(bytes);
    if (count == 0 || *begin != 0 || std::memcmp(begin, begin + 1, count - 1) != 0)
      return UnsyncedLayer::write(descriptor, bytes, count);
    const off_t end = lseek(descriptor, static_cast<off_t>(count), SEEK_CUR);
    if (end < 0 || ftruncate(descriptor, end) != 0) return -1;
    return static_cast<ssize_t>(count);
  }
};
}  // namespace

TEST_CASE("Every tensor of a backbone has its place, and reading them takes little memory") {
  for (const Backbone& backbone : backbones) {
    INFO(backbone.config);
    SparseModel model(backbone);
    const std::string where = model.dir / "hf/config.json";
    hf::ForeignConfig foreign = hf::read_config_json(get(where), where, 4096);
    CHECK(foreign.config.model == model.config.model);
    foreign.config.moe.bias_rate = model.config.moe.bias_rate;  // which follows from the tensors
    foreign.config.moe.renormalize = model.config.moe.renormalize;
    CHECK(foreign.config.moe == model.config.moe);
    const TensorSource source(model.dir / "hf", "model");
    CHECK(source.total_bytes() > uint64_t{29} << 30);
    hf::require_plausible(model.family, foreign.config, source);
    const uint64_t before = anonymous_bytes();
    const hf::ImportedTensors imported = hf::tensors_for_import(foreign, source);
    int64_t weights = 0;
    const std::string last_layer = fmt::format("layers.{}.", model.config.model.num_layers - 1);
    for (const NamedTensor& t : imported.tensors) {
      if (!t.name.ends_with("router.bias")) weights += static_cast<int64_t>(byte_size(t) / 4);
      // Reading a hole costs milliseconds, so not every tensor is read.
      const bool in_between =
          t.name.starts_with("layers.") && !t.name.starts_with("layers.0.") && !t.name.starts_with(last_layer);
      const bool one_of_many = t.name.find(".experts.") != t.name.npos && t.name.find(".experts.0.") == t.name.npos;
      if (in_between || one_of_many) continue;
      float element = 1;
      t.read(&element, byte_size(t) - sizeof(element), sizeof(element));
      CHECK(element == 0);
    }
    CHECK(weights == model_size(model.config).parameters);
    CHECK(anonymous_bytes() - before < uint64_t{256} << 20);
  }
}

// A slice of each backbone: its first layers and a part of its experts and words, every width as it is. The limit is
// what the embedding takes in the checkpoint, so that neither a tensor of that size nor a model is held as a whole.
TEST_CASE("Import and exports of a backbone's slice take little memory") {
  for (const Backbone& backbone : backbones) {
    INFO(backbone.config);
    Config config = SparseModel::config_of(backbone);
    config.model.vocab_size = 8192;
    config.model.num_layers = config.model.dense_layers + 1;
    config.moe.num_experts /= 8;
    SparseModel model(backbone, config);
    const uint64_t embedding_bytes = 4 * uint64_t{8192} * static_cast<uint64_t>(config.model.hidden_size);
    HollowLayer hollow;
    const InterposedFileLayer interposed(hollow);
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)  // AddressSanitizer keeps for a while what was freed
    const MemoryLimit limit(uint64_t{1} << 30);
#else
    const MemoryLimit limit(embedding_bytes);
#endif
    const hf::ImportSummary imported = hf::import_model(model.dir / "hf", model.dir / "imported");
    CHECK(imported.class_name == backbone.class_name);
    const Checkpoint checkpoint(imported.checkpoint);
    CHECK(hf::export_model(checkpoint, imported.config, model.dir / "exported").parameters.written >=
          model_size(config).parameters);
    // llama.cpp knows a DeepSeek-V2-Lite by its number of layers, which a slice does not have.
    if (config.model.attention == AttentionKind::mla) continue;
    const gguf::ExportSummary file =
        gguf::export_model(checkpoint, imported.config, model.dir / "model.gguf", {gguf::Encoding::bf16});
    CHECK(file.parameters.written >= model_size(config).parameters);
  }
}

// Takes minutes of a core: build/test_full_size "[whole]", and with -c deepseek_v2_lite one of them.
TEST_CASE("A backbone is imported as a whole within 1 GiB of memory", "[.][whole]") {
  for (const Backbone& backbone : backbones) {
    SECTION(backbone.config) {
      SparseModel model(backbone);
      HollowLayer hollow;
      const InterposedFileLayer interposed(hollow);
      const MemoryLimit limit(uint64_t{1} << 30);
      const hf::ImportSummary summary = hf::import_model(model.dir / "hf", model.dir / "imported");
      CHECK(summary.class_name == backbone.class_name);
      const Checkpoint imported(summary.checkpoint);
      int64_t weights = 0;
      for (const auto& [name, item] : imported.model().items())
        if (!name.ends_with("router.bias")) weights += static_cast<int64_t>(item.bytes().size() / 4);
      CHECK(weights == model_size(model.config).parameters);
      WARN(backbone.config << ": " << summary.tensors << " tensors, " << weights << " weights");
    }
  }
}
