// Reference files replayed on every backend, and what must make a replay fail.
#include <memory>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/train/reference_files.h"
#include "train/verify.h"

namespace strand::test {
namespace {

struct Place {
  const char* name;
  std::unique_ptr<Ops> ops;
  Precision precision;
};

std::vector<Place> places() {
  std::vector<Place> all;
  all.push_back({"reference fp64", std::make_unique<ReferenceOps>(), Precision::fp64});
  all.push_back({"cpu fp32", make_cpu_ops(), Precision::fp32});
  all.push_back({"cpu bf16", make_cpu_ops(), Precision::bf16});
  return all;
}

VerifyReport verify(const std::string& path, const Place& place) {
  ProcessGrid self;
  return verify_case(ReferenceCase(path), *place.ops, self, place.precision);
}

/// Whether some row about `quantity` failed.
bool failed_in(const VerifyReport& report, const std::string& quantity) {
  return std::any_of(report.rows.begin(), report.rows.end(),
                     [&](const VerifyRow& r) { return !r.pass && r.quantity.starts_with(quantity); });
}

TEST_CASE("Every reference file passes on every backend") {
  const std::vector<std::string> files = all_reference_files();
  REQUIRE(files.size() == 26);
  for (const Place& place : places()) {
    for (const std::string& file : files) {
      const VerifyReport report = verify(file, place);
      INFO(place.name << "\n" << format_report(report));
      CHECK(report.pass());
      CHECK(report.rows.size() >= 15);
      CHECK(report.case_name == std::filesystem::path(file).stem().string());
    }
  }
}

TEST_CASE("Every quantity of a file is compared") {
  const VerifyReport report = verify(reference_file("o_v"), places()[0]);
  std::string quantities;
  for (const VerifyRow& r : report.rows) quantities += r.quantity + "\n";
  for (const char* quantity :
       {"out.logits", "out.router_logits", "out.selected", "out.counts", "out.loss",       "out.term.ce", "out.term.lb",
        "out.term.z", "out.term.sp",       "out.term.cp",  "out.term.o", "out.term.v",     "grad",        "termgrad.o",
        "termgrad.v", "traj.loss",         "traj.ce",      "traj.lr",    "traj.grad_norm", "traj.param"}) {
    INFO(quantities);
    CHECK(quantities.find(quantity) != std::string::npos);
  }
}

TEST_CASE("One gradient tensor scaled by 1.01 fails") {
  const TemporaryDirectory directory;
  const std::vector<Place> all = places();
  for (const char* name : {"grad.layers.1.moe.experts.2.down_proj.weight", "grad.embed_tokens.weight",
                           "grad.layers.0.ffn_norm.weight", "grad.layers.0.moe.router.weight"}) {
    INFO(name);
    EditableFile file(reference_file("paper_weights"));
    EditableFile::Entry& gradient = file.at(name);
    for (size_t i = 0; i < gradient.bytes.size() / sizeof(float); ++i) gradient.values<float>()[i] *= 1.01f;
    const std::string path = file.write(directory / "scaled.safetensors");
    for (size_t i : {size_t{0}, size_t{1}}) {
      const VerifyReport report = verify(path, all[i]);
      CHECK_FALSE(report.pass());
      CHECK(failed_in(report, "grad ("));
      CHECK_FALSE(failed_in(report, "out."));
      CHECK(format_report(report).find("worst: " + std::string(name)) != std::string::npos);
    }
  }
}

TEST_CASE("A changed token, term, trajectory or final weight fails on every backend") {
  struct Change {
    const char* what;
    void (*apply)(EditableFile&);
    bool seen_in_bf16;
  };
  const Change changes[] = {
      {"a token", [](EditableFile& f) { f.at("input.tokens").values<int32_t>()[0] ^= 1; }, false},
      {"a target", [](EditableFile& f) { f.at("input.targets").values<int32_t>()[3] ^= 1; }, false},
      {"a term", [](EditableFile& f) { f.at("out.term.sp").values<float>()[0] *= 1.1f; }, true},
      {"a term's sign", [](EditableFile& f) { f.at("out.term.cp").values<float>()[0] *= -1.0f; }, true},
      {"a selection",
       [](EditableFile& f) {
         std::swap(f.at("out.selected").values<int32_t>()[0], f.at("out.selected").values<int32_t>()[1]);
       },
       false},
      {"a count", [](EditableFile& f) { f.at("out.counts").values<int32_t>()[0] += 1; }, false},
      {"a NaN", [](EditableFile& f) { f.at("out.logits").values<float>()[7] = NAN; }, true},
      {"a gradient that is zero",
       [](EditableFile& f) {
         auto& bytes = f.at("grad.layers.0.attn.k_proj.weight").bytes;
         std::fill(bytes.begin(), bytes.end(), std::byte{0});
       },
       false},
      {"the learning rate", [](EditableFile& f) { f.at("traj.lr").values<float>()[2] *= 1.0001f; }, true},
      {"the first gradient norm", [](EditableFile& f) { f.at("traj.grad_norm").values<float>()[0] *= 1.08f; }, true},
      {"the last loss", [](EditableFile& f) { f.at("traj.loss").values<float>()[4] *= 1.2f; }, true},
      {"a final weight", [](EditableFile& f) { f.at("traj.param.norm.weight").values<float>()[0] += 0.01f; }, false},
      {"another schedule", [](EditableFile& f) { f.edit_config("\"warmup_steps\": 2", "\"warmup_steps\": 3"); }, true},
      {"another loss weight", [](EditableFile& f) { f.edit_config("\"sp_weight\": 0.002", "\"sp_weight\": 0.003"); },
       false},
  };
  const TemporaryDirectory directory;
  const std::vector<Place> all = places();
  for (const Change& change : changes) {
    EditableFile file(reference_file("paper_weights"));
    change.apply(file);
    const std::string path = file.write(directory / "changed.safetensors");
    for (const Place& place : all) {
      if (place.precision == Precision::bf16 && !change.seen_in_bf16) continue;
      INFO(change.what << " on " << place.name);
      CHECK_FALSE(verify(path, place).pass());
    }
  }
}

TEST_CASE("A file that lacks what is to be compared cannot be replayed") {
  const TemporaryDirectory directory;
  const std::vector<Place> all = places();
  for (const char* name : {"param.norm.weight", "grad.norm.weight", "out.logits", "out.loss", "out.selected",
                           "out.router_logits", "traj.lr", "traj.param.layers.1.moe.router.weight"}) {
    EditableFile file(reference_file("paper_weights"));
    file.erase(name);
    const std::string path = file.write(directory / "lacking.safetensors");
    CHECK_THROWS_WITH(verify(path, all[0]), Catch::Matchers::Contains(name) && Catch::Matchers::Contains(path));
  }
}

TEST_CASE("A file that is older than a term: no key of its weight, and no value") {
  const TemporaryDirectory directory;
  const std::vector<Place> all = places();
  EditableFile file(reference_file("paper_weights"));
  file.edit_config("\"v_weight\": 0.0, ", "");
  file.erase("out.term.v");
  CHECK(verify(file.write(directory / "older.safetensors"), all[0]).pass());
  file.erase("out.term.sp");  // which has a weight
  CHECK_THROWS_WITH(verify(file.write(directory / "lacking.safetensors"), all[0]),
                    Catch::Matchers::Contains("out.term.sp"));
}

TEST_CASE("A tensor of another shape cannot be replayed: the error names file and tensor") {
  const TemporaryDirectory directory;
  const std::vector<Place> all = places();
  for (const char* name : {"param.layers.0.attn.q_proj.weight", "grad.norm.weight", "out.logits", "out.selected",
                           "out.term.ce", "traj.lr", "traj.param.embed_tokens.weight", "out.router_logits"}) {
    INFO(name);
    EditableFile file(reference_file("paper_weights"));
    EditableFile::Entry& entry = file.at(name);
    entry.spec.shape[0] += 1;
    int64_t elements = 1;
    for (int64_t d : entry.spec.shape) elements *= d;
    entry.bytes.resize(static_cast<size_t>(elements) * 4);
    const std::string path = file.write(directory / "shape.safetensors");
    CHECK_THROWS_WITH(verify(path, all[0]), Catch::Matchers::Contains(name) && Catch::Matchers::Contains(path));
  }
  // As many elements, transposed.
  const std::string name = "param.layers.0.moe.experts.1.up_proj.weight";
  EditableFile file(reference_file("paper_weights"));
  std::vector<int64_t>& shape = file.at(name).spec.shape;
  REQUIRE(shape[0] != shape[1]);
  std::swap(shape[0], shape[1]);
  const std::string path = file.write(directory / "transposed.safetensors");
  CHECK_THROWS_WITH(verify(path, all[0]), Catch::Matchers::Contains(name) && Catch::Matchers::Contains(path));
}

}  // namespace
}  // namespace strand::test
