#include "kernels/cpu/isa.h"

#include <fmt/core.h>

#include <cstdlib>
#include <dnnl.hpp>

#include "core/error.h"
#include "kernels/cpu/cpu_levels.h"  // generated: STRAND_FOR_EACH_CPU_LEVEL

#define STRAND_DECLARE_LEVEL(level) extern "C" const strand::CpuLevel* STRAND_CPU_LEVEL_FUNCTION(level)();
STRAND_FOR_EACH_CPU_LEVEL(STRAND_DECLARE_LEVEL)

namespace strand {
namespace {

const char* required_by(CpuTier tier) {
  switch (tier) {
    case CpuTier::any:
      return "nothing";
    case CpuTier::x86_v2:
      return "x86-64-v2 (SSE4.2)";
    case CpuTier::x86_v3:
      return "x86-64-v3 (AVX2 and FMA)";
    case CpuTier::x86_v4:
      return "x86-64-v4 (AVX-512)";
    case CpuTier::x86_v4_bf16:
      return "x86-64-v4 and AVX512-BF16";
  }
  fail("no tier {}", static_cast<int>(tier));
}

std::string names_up_to(std::span<const CpuLevel* const> levels, CpuTier tier) {
  std::string names;
  for (const CpuLevel* level : levels)
    if (level->needs <= tier) names += (names.empty() ? "" : ", ") + std::string(level->name);
  return names.empty() ? "none" : names;
}

/// Products of matrices on what a CPU of this tier has.
void limit_onednn(const CpuLevel& level) {
  auto limit = dnnl::cpu_isa::sse41;
  if (level.needs == CpuTier::any) return;
  if (level.needs == CpuTier::x86_v3) limit = dnnl::cpu_isa::avx2;
  if (level.needs == CpuTier::x86_v4) limit = dnnl::cpu_isa::avx512_core;
  if (level.needs == CpuTier::x86_v4_bf16) limit = dnnl::cpu_isa::avx512_core_bf16;
  const dnnl::status status = dnnl::set_max_cpu_isa(limit);
  require(status == dnnl::status::success,
          "STRAND_ISA={}: oneDNN cannot be limited alike (status {}); unset STRAND_ISA, or use a oneDNN that is built "
          "with ONEDNN_ENABLE_MAX_CPU_ISA",
          level.name, static_cast<int>(status));
}

/// What oneDNN will use, in its own words.
std::string onednn_isa_text() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return fmt::format("isa {:#x}", static_cast<unsigned>(isa));
  }
}

const CpuLevel& decide() {
  const char* variable = std::getenv("STRAND_ISA");
  const std::string wanted = variable == nullptr ? "" : variable;
  const CpuLevel& level = choose_cpu_level(cpu_levels(), cpu_tier(), wanted);
  if (!wanted.empty()) limit_onednn(level);
  return level;
}

}  // namespace

CpuTier cpu_tier() {
#if defined(__x86_64__)
#if defined(__clang__) && __clang_major__ < 18  // knows no names of levels: what no CPU of a lower level has
  const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
  const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
#else
  const bool v2 = __builtin_cpu_supports("x86-64-v2"), v3 = __builtin_cpu_supports("x86-64-v3"),
             v4 = __builtin_cpu_supports("x86-64-v4");
#endif
  if (!v2) return CpuTier::any;
  if (!v3) return CpuTier::x86_v2;
  if (!v4) return CpuTier::x86_v3;
  return __builtin_cpu_supports("avx512bf16") ? CpuTier::x86_v4_bf16 : CpuTier::x86_v4;
#else
  return CpuTier::any;
#endif
}

std::span<const CpuLevel* const> cpu_levels() {
#define STRAND_CALL_LEVEL(level) STRAND_CPU_LEVEL_FUNCTION(level)(),
  static const CpuLevel* const levels[] = {STRAND_FOR_EACH_CPU_LEVEL(STRAND_CALL_LEVEL)};
  return levels;
}

const CpuLevel& choose_cpu_level(std::span<const CpuLevel* const> levels, CpuTier tier, const std::string& wanted) {
  const CpuLevel* chosen = nullptr;
  for (const CpuLevel* level : levels)
    if (wanted.empty() ? level->needs <= tier : level->name == wanted) chosen = level;
  if (chosen == nullptr && wanted.empty())
    fail("this build's kernels need {}, which this CPU does not have", required_by(levels[0]->needs));
  require(chosen != nullptr, "STRAND_ISA={}: this build has no such level; this CPU runs {}", wanted,
          names_up_to(levels, tier));
  require(chosen->needs <= tier, "STRAND_ISA={}: this CPU does not have {}; it runs {}", wanted,
          required_by(chosen->needs), names_up_to(levels, tier));
  return *chosen;
}

const CpuLevel& cpu_level() {
  static const CpuLevel& level = decide();
  return level;
}

std::string cpu_isa_text() {
  const CpuLevel& level = cpu_level();  // before oneDNN is asked, which then can no longer be limited
  return fmt::format("{}, products {}", level.name, onednn_isa_text());
}

std::string bf16_remark() {
  if (!cpu_level().multiplies_bf16())
    return "bf16 is emulated on these instructions: products widen their operands and compute in fp32, so a step is "
           "not "
           "faster than with precision fp32";
  return "";
}

}  // namespace strand
