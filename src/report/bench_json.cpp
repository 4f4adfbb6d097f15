// BenchReport to JSON and back.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "report/bench_report.h"

namespace strand {

namespace {
using json = nlohmann::ordered_json;
constexpr const char* format_name = "strand bench 1";

json families_json(const StepProfile& profile) {
  json families = json::array();
  for (const FamilyTime& f : profile.families)
    families.push_back(
        {{"name", f.name}, {"seconds", f.seconds}, {"calls", f.calls}, {"flops", f.flops}, {"bytes", f.bytes}});
  return families;
}

StepProfile profile_from(const json& j) {
  StepProfile profile;
  profile.step_seconds = j.at("step_seconds").get<double>();
  for (const json& f : j.at("families"))
    profile.families.push_back({f.at("name").get<std::string>(), f.at("seconds").get<double>(),
                                f.at("calls").get<int64_t>(), f.at("flops").get<double>(),
                                f.at("bytes").get<double>()});
  return profile;
}

std::vector<double> times_from(const json& j, const char* key, const std::string& origin) {
  const auto seconds = j.at(key).get<std::vector<double>>();
  require(!seconds.empty(), "{}: {} is empty", origin, key);
  for (const double s : seconds) require(s > 0 && std::isfinite(s), "{}: {} holds {}", origin, key, s);
  return seconds;
}

BenchReport report_from(const json& j, const std::string& origin) {
  BenchReport r;
  r.setup.workload = j.at("workload").get<std::map<std::string, std::string>>();
  // Results of versions without ranks do not say that there was one rank.
  for (const char* key : {"ranks", "parallel.expert_parallel"}) r.setup.workload.emplace(key, "1");
  r.setup.machine = {j.at("machine").at("cpu").get<std::string>(), j.at("machine").at("cores").get<int>(),
                     j.at("machine").value("instructions", "")};
  r.setup.threads = j.at("threads").get<int>();
  r.warmup_steps = j.at("warmup_steps").get<int64_t>();
  r.parameters = j.at("parameters").get<int64_t>();
  r.active_parameters = j.at("active_parameters").get<int64_t>();
  r.training_flops_per_token = j.at("training_flops_per_token").get<double>();
  r.tokens_per_step = j.at("tokens_per_step").get<int64_t>();
  r.fp32_peak = j.at("peak").at("fp32_flops").get<double>();
  r.bf16_peak = j.at("peak").at("bf16_flops").get<double>();
  r.peak_used = j.at("peak").at("used").get<std::string>();
  r.step_seconds = times_from(j, "step_seconds", origin);
  r.profile = profile_from(j.at("profile"));
  r.program_bytes = j.at("memory").value("program_bytes", uint64_t{0});
  r.planned_bytes = j.at("memory").at("planned_bytes").get<uint64_t>();
  r.peak_resident_bytes = j.at("memory").at("peak_resident_bytes").get<uint64_t>();
  if (j.contains("ranks")) r.ranks = ranks_from(j.at("ranks"));
  if (j.contains("losses_overhead")) {
    const json& o = j.at("losses_overhead");
    r.losses_overhead = {o.at("sp_weight").get<double>(),  o.at("cp_weight").get<double>(),
                         times_from(o, "neither", origin), times_from(o, "sp", origin),
                         times_from(o, "cp", origin),      times_from(o, "both", origin)};
  }
  if (j.contains("checkpoint")) {
    const json& c = j.at("checkpoint");
    r.checkpoint = {c.at("bytes").get<uint64_t>(), c.at("stall_seconds").get<double>(),
                    c.at("write_seconds").get<double>(), c.at("steps_meanwhile").get<std::vector<double>>()};
  }
  return r;
}
}  // namespace

json to_json(const BenchReport& r) {
  const double best = best_of(r.step_seconds), median = median_of(r.step_seconds);
  json j = {{"format", format_name},
            {"workload", r.setup.workload},
            {"machine",
             {{"cpu", r.setup.machine.cpu},
              {"cores", r.setup.machine.cores},
              {"instructions", r.setup.machine.instructions}}},
            {"threads", r.setup.threads},
            {"warmup_steps", r.warmup_steps},
            {"parameters", r.parameters},
            {"active_parameters", r.active_parameters},
            {"training_flops_per_token", r.training_flops_per_token},
            {"tokens_per_step", r.tokens_per_step},
            {"peak", {{"fp32_flops", r.fp32_peak}, {"bf16_flops", r.bf16_peak}, {"used", r.peak_used}}},
            {"step_seconds", r.step_seconds},
            {"tokens_per_second", {{"best", r.tokens_per_second(best)}, {"median", r.tokens_per_second(median)}}},
            {"mfu", {{"best", r.mfu(best)}, {"median", r.mfu(median)}}},
            {"profile",
             {{"step_seconds", r.profile.step_seconds},
              {"families", families_json(r.profile)},
              {"outside_seconds", r.profile.outside_seconds()}}},
            {"memory",
             {{"program_bytes", r.program_bytes},
              {"planned_bytes", r.planned_bytes},
              {"peak_resident_bytes", r.peak_resident_bytes}}}};
  if (r.ranks) j["ranks"] = to_json(*r.ranks);
  if (r.losses_overhead) {
    const LossesOverhead& o = *r.losses_overhead;
    j["losses_overhead"] = {{"sp_weight", o.sp_weight},
                            {"cp_weight", o.cp_weight},
                            {"neither", o.neither},
                            {"sp", o.sp},
                            {"cp", o.cp},
                            {"both", o.both}};
  }
  if (r.checkpoint) {
    const CheckpointCost& c = *r.checkpoint;
    j["checkpoint"] = {{"bytes", c.bytes},
                       {"stall_seconds", c.stall_seconds},
                       {"write_seconds", c.write_seconds},
                       {"steps_meanwhile", c.steps_meanwhile}};
  }
  return j;
}

BenchReport bench_report_from_json(const std::string& text, const std::string& origin) {
  try {
    const json j = json::parse(text);
    require(j.is_object() && j.value("format", "") == format_name, "{}: not the JSON of `strand bench` (no \"{}\")",
            origin, format_name);
    return report_from(j, origin);
  } catch (const json::exception& e) {
    fail("{}: not the JSON of `strand bench`: {}", origin, e.what());
  }
}

}  // namespace strand
