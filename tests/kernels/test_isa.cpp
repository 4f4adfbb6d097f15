// The level of instruction sets that the CPU kernels run on: which one is chosen, and what the user is told.
#include <cstdlib>
#include <string>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/isa.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;

namespace {
const CpuLevel low{.name = "low", .needs = CpuTier::x86_v2};
const CpuLevel middle{.name = "middle", .needs = CpuTier::x86_v3};
const CpuLevel high{.name = "high", .needs = CpuTier::x86_v4};
const CpuLevel* const three[] = {&low, &middle, &high};

std::string chosen(CpuTier tier, const std::string& wanted = "") {
  return choose_cpu_level(three, tier, wanted).name;
}
}  // namespace

TEST_CASE("The highest level that the CPU has is chosen") {
  CHECK(chosen(CpuTier::x86_v2) == "low");
  CHECK(chosen(CpuTier::x86_v3) == "middle");
  CHECK(chosen(CpuTier::x86_v4) == "high");
  CHECK(chosen(CpuTier::x86_v4_bf16) == "high");
}

TEST_CASE("A lower level can be asked for, a higher one cannot") {
  CHECK(chosen(CpuTier::x86_v4, "low") == "low");
  CHECK(chosen(CpuTier::x86_v4, "middle") == "middle");
  CHECK(chosen(CpuTier::x86_v4, "high") == "high");
  CHECK_THROWS_WITH(chosen(CpuTier::x86_v3, "high"),
                    Contains("STRAND_ISA=high") && Contains("x86-64-v4") && Contains("it runs low, middle"));
}

TEST_CASE("An unknown word, and a CPU that has less than every level, are errors that say what there is") {
  CHECK_THROWS_WITH(chosen(CpuTier::x86_v3, "hihg"), Contains("STRAND_ISA=hihg") && Contains("low, middle"));
  CHECK_THROWS_WITH(chosen(CpuTier::x86_v3, "Low"), Contains("no such level"));
  CHECK_THROWS_WITH(chosen(CpuTier::any), Contains("x86-64-v2"));
}

TEST_CASE("The levels of this build ascend, and the process runs the one that STRAND_ISA names") {
  const auto levels = cpu_levels();
  REQUIRE(!levels.empty());
  for (size_t i = 1; i < levels.size(); ++i) CHECK(levels[i - 1]->needs < levels[i]->needs);
  const char* wanted = std::getenv("STRAND_ISA");
  const CpuLevel& level = cpu_level();
  if (wanted != nullptr) CHECK(std::string(level.name) == wanted);
  CHECK(level.needs <= cpu_tier());
  CHECK_THAT(cpu_isa_text(), Contains(level.name));
  CHECK(std::string(make_cpu_ops()->name()) == "cpu");
}

TEST_CASE("Products of oneDNN are limited as the kernels are") {
  const std::string text = cpu_isa_text(), wanted = std::getenv("STRAND_ISA") ? std::getenv("STRAND_ISA") : "";
  if (wanted == "portable") CHECK(text == "portable, products sse41");
  if (wanted == "avx2") CHECK(text == "avx2, products avx2");
  if (wanted == "avx512") CHECK(text == "avx512, products avx512_core");
  if (wanted == "portable" || wanted == "avx2" || wanted == "avx512") CHECK_THAT(bf16_remark(), Contains("emulated"));
}
