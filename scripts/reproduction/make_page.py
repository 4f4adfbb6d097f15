#!/usr/bin/env python3
"""Makes docs/reproduction.md of docs/reproduction/: the plan, the decision and the results.

    make_page.py [PLAN [OUT]]
"""
import collections
import json
import math
import sys
from pathlib import Path

import routing
import student
from page_text import CONTRADICTIONS, HEAD, NOT_RUN, PAPER_TABLES, PROBE
from plan import Plan, noise, seeds_for
from tables import number, plain, table


def verdict(differences, effect):
    """The words fixed beforehand. `effect` is the paper's, positive where the method is better; the sign of a
    difference (method minus baseline) is turned round where the paper says that the method is worse."""
    if len(differences) < 3:
        return "too few pairs"
    d = [x if effect > 0 else -x for x in differences]
    size, found = abs(effect), student.interval(d)
    if found.high < 0 and abs(found.mean) >= size / 4:
        return "reproduced"
    if found.low > 0:
        return "contradicted"
    if -size / 4 <= found.low and found.high <= size / 4:
        return "no effect"
    if all(x < 0 for x in d):
        return "direction only"
    return "undecided"


# ---- sections -----------------------------------------------------------------------------------------------------------


def progress(plan):
    rows = []
    for name, what in plan.experiments.items():
        runs = list(plan.runs(name))
        done = sum(plan.result_file(run).exists() for run in runs)
        planned = f"{done} of {len(runs)}" if runs else "0; their number follows from R0"
        rows.append([name, what["what"], what.get("paper", "–"), planned])
    return table(["experiment", "question", "in the paper", "runs done"], rows)


def places(plan):
    found = {}
    for file in sorted(plan.results.glob("*.json")):
        row = json.loads(file.read_text(encoding="utf-8"))
        place = row["place"]
        key = (place["cpu"], place["device"], place["program"], place["program_sha256"][:12])
        found.setdefault(key, []).append(row["training"]["tokens"] / row["training"]["seconds"])
    if not found:
        return "No run is finished yet."
    rows = [[*key[:3], f"`{key[3]}`", str(len(speeds)), f"{min(speeds):.0f} to {max(speeds):.0f}"]
            for key, speeds in found.items()]
    return (table(["CPU", "device", "program", "SHA-256 of it", "runs", "tokens/s"], rows) +
            "\n\nThe speeds are those of runs beside other runs, and no benchmark. Results repeat bit by bit on the same kind of "
            "device and build only.")


def on_a_cpu(plan):
    """Runs of R0 that were also made on CPUs, in docs/reproduction/cpu: the same seeds, text and settings."""
    files = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted((plan.path.parent / "cpu").glob("*.json"))}
    rows = []
    for protocol in plan.experiment("R0")["protocols"]:
        here = {run.name: plan.result(run) for run in plan.runs("R0") if run.protocol == protocol and plan.result(run)}
        pairs = [(result["endpoint"]["loss"], files[f"{name}.json"]["endpoint"]["loss"])
                 for name, result in here.items() if f"{name}.json" in files]
        if len(pairs) < 2:
            continue
        row = student.interval([a - b for a, b in pairs])
        rows.append([f"`{protocol}`", str(row.n), *(plain(student.mean([p[i] for p in pairs])) for i in (0, 1)),
                     number(row.mean), f"{number(row.low)} to {number(row.high)}"])
    if not rows:
        return ""
    cpus = sorted({f"{row['place']['cpu']}, {row['place']['device']}" for row in files.values()})
    return ("\n\nThe same seeds on a GPU, and on a CPU (" + "; ".join(cpus) + "):\n\n" +
            table(["protocol", "pairs", "GPU, nats", "CPU, nats", "difference", "95 % interval"], rows))


def power(plan):
    p = plan.content["power"]
    effects = (p["effect_nats"], p["effect_nats"] / 4)
    rows = []
    for sd in (0.003, 0.005, 0.007, 0.010, 0.013):
        row = [plain(sd, 3), plain(math.sqrt(2) * sd, 4)]
        for effect in effects:
            n = student.pairs_for_power(effect, math.sqrt(2) * sd, p["power"], 2, 500)
            row.append(str(n) if n < 500 else "500 or more")
        row.append(plain(student.power_of_paired_test(p["effect_nats"], math.sqrt(2) * sd, 3), 2))
        rows.append(row)
    return table(["deviation of a run", "of a difference", f"pairs for {effects[0]:.4f}", f"pairs for {effects[1]:.4f}",
                  "power of 3 pairs"], rows)


def noise_section(plan):
    found = noise(plan)
    if not found:
        return "No protocol has two finished runs yet."
    protocols = plan.content["protocols"]
    rows = []
    for row in found:
        cost = protocols[row.protocol]["cost"]
        rows.append([f"`{row.protocol}`", protocols[row.protocol]["what"], str(row.runs), plain(row.mean), plain(row.sd),
                     plain(row.last_sd), str(len(row.twin_differences)), plain(row.twin_rms),
                     plain(max(map(abs, row.twin_differences), default=math.nan)), plain(cost, 2),
                     plain(1e6 * row.sd ** 2 * cost, 1)])
    text = table(["protocol", "what it is", "runs", "mean, nats", "sd of a run", "sd, last checkpoint alone", "twins",
                  "s_AA: rms of twins", "largest of twins", "cost", "variance × cost, 10⁻⁶"], rows)
    text += on_a_cpu(plan)
    decision = plan.decision()
    if decision is None:
        done = sum(plan.result(run) is not None for run in plan.runs("R0"))
        total = len(list(plan.runs("R0")))
        return text + (f"\n\n**Nothing is decided yet: {done} of {total} runs are there.** A deviation from n runs is itself "
                       "uncertain (from 8 runs: a factor of 0.66 to 2.0 at 95 %), so rows with few runs say little.")
    return text + (f"\n\n**Decided:** protocol `{decision['protocol']}`, {decision['seeds']} seeds an arm "
                   f"(deviation of a difference {decision['sd_of_a_difference']:.4f} nats).")


def losses_of(plan, name):
    """{arm: {seed: result}}"""
    found = {}
    for run in plan.runs(name):
        result = plan.result(run)
        if result:
            found.setdefault(run.arm, {})[run.seed] = result
    return found


def comparison(plan, name):
    """Arms beside each other, and the paired differences from the first one."""
    what, found = plan.experiment(name), losses_of(plan, name)
    base = what["arms"][0]
    if len(found.get(base, {})) < 2:
        return ""
    means = []
    for arm in what["arms"]:
        values = [r["endpoint"]["loss"] for r in found.get(arm, {}).values()]
        if len(values) < 2:
            continue
        last = list(found[arm].values())
        terms = {t: student.mean([r["terms_on_validation"][t] for r in last]) for t in ("lb", "z", "sp", "cp")}
        means.append([f"`{arm}`", str(len(values)), plain(student.mean(values)), plain(student.deviation(values)),
                      plain(math.exp(student.mean(values)), 2), *(plain(terms[t], 4) for t in ("lb", "z", "sp", "cp"))])
    text = table(["arm", "seeds", "cross-entropy", "sd", "perplexity", "lb", "z", "sp", "cp"], means)
    rows, tests = [], []
    for arm in what["arms"][1:]:
        pairs = sorted(set(found[base]) & set(found.get(arm, {})))
        d = [found[arm][s]["endpoint"]["loss"] - found[base][s]["endpoint"]["loss"] for s in pairs]
        if len(d) < 2:
            continue
        effect, row = what["effect_nats"][arm], student.interval(d)
        tests.append(student.p_value(d))
        rows.append([f"`{arm}` − `{base}`", str(row.n), number(row.mean), f"{number(row.low)} to {number(row.high)}",
                     plain(row.sd), number(-effect), "yes" if row.low <= -effect <= row.high else "no",
                     plain(math.exp(row.mean), 4), "", verdict(d, effect)])
    for row, p in zip(rows, student.holm(tests)):
        row[8] = plain(p, 3)
    if rows:
        text += "\n\n" + table(["difference", "pairs", "mean, nats", "95 % interval", "sd", "the paper's", "inside?",
                                "ratio of perplexity", "p (Holm)", "verdict"], rows)
    planned = len({run.seed for run in plan.runs(name)})
    least = min(len(found.get(arm, {})) for arm in what["arms"])
    if least < planned:
        text += f"\n\n**Not complete: {least} of {planned} seeds.** The words of the last column may change."
    devices = collections.Counter(result["place"]["device"] for arm in found.values() for result in arm.values())
    if len(devices) > 1:
        text += "\n\nRuns of this table by device: " + "; ".join(f"{n} on {device}" for device, n in devices.most_common()) + "."
        mixed = [str(seed) for seed in sorted(found[base])
                 if len({runs[seed]["place"]["device"] for runs in found.values() if seed in runs}) > 1]
        if mixed:
            text += f" Seeds whose arms ran on different devices: {', '.join(mixed)}."
    return text


def in_short(plan):
    """A line for each difference of an experiment that is complete."""
    lines = []
    for name, what in plan.experiments.items():
        if what["kind"] == "noise" or not what["effect_nats"]:
            continue
        runs = list(plan.runs(name))
        if not runs or any(plan.result(run) is None for run in runs):
            continue
        found, base = losses_of(plan, name), what["arms"][0]
        for arm in what["arms"][1:]:
            row = student.interval([found[arm][s]["endpoint"]["loss"] - r["endpoint"]["loss"] for s, r in found[base].items()])
            paper = -what["effect_nats"][arm]
            where = "inside" if row.low <= paper <= row.high else "outside"
            lines.append(f"- {name}, `{arm}` against `{base}`: {number(row.mean)} nats, 95 % interval {number(row.low)} to "
                         f"{number(row.high)} ({row.n} pairs). The paper's {number(paper)} lies {where}.")
    return "## In short\n\n" + "\n".join(lines) + "\n" if lines else ""


def late_mean(result, term):
    """Over the second half of training, on training batches."""
    tenths = result["terms_by_tenth_of_training"][term]
    return student.mean([tenth for tenth in tenths[len(tenths) // 2:] if tenth is not None])


def mechanism(plan):
    """Figures 3 and 9 of the paper, from the same runs as R2."""
    found = losses_of(plan, "R2")

    def differences(term, method, base, relative=False):
        pairs = sorted(set(found.get(method, {})) & set(found.get(base, {})))
        values = [(late_mean(found[method][s], term), late_mean(found[base][s], term)) for s in pairs]
        return [(a - b) / b if relative else a - b for a, b in values]

    rows = []
    for what, term, method, base, relative, judge in (
            ("Fig. 3: cp lowers sp", "sp", "lb,sp,cp", "lb,sp", False, "low"),
            ("Fig. 3: sp lowers cp", "cp", "lb,sp,cp", "lb,cp", False, "low"),
            ("Fig. 9: lb unchanged by sp", "lb", "lb,sp", "lb", True, "equal"),
            ("Fig. 9: lb unchanged by cp", "lb", "lb,cp", "lb", True, "equal"),
            ("Fig. 9: lb unchanged by both", "lb", "lb,sp,cp", "lb", True, "equal")):
        d = differences(term, method, base, relative)
        if len(d) < 2:
            continue
        row = student.interval(d)
        if judge == "low":
            word = "reproduced" if row.high < 0 else "contradicted" if row.low > 0 else "undecided"
        else:
            word = "reproduced" if -0.01 <= row.low and row.high <= 0.01 else (
                "contradicted" if row.low > 0.01 or row.high < -0.01 else "undecided")
        scale, unit = (100, " %") if relative else (1, "")
        digits = 2 if relative else 5
        rows.append([what, f"`{method}` − `{base}`", str(row.n), number(scale * row.mean, digits) + unit,
                     f"{number(scale * row.low, digits)} to {number(scale * row.high, digits)}{unit}", word])
    if not rows:
        return ""
    return ("Means over the second half of training. For Fig. 9, ±1 % counts as equal.\n\n" +
            table(["statement", "difference", "pairs", "mean", "95 % interval", "verdict"], rows))


def make(plan):
    p = plan.content
    parts = [HEAD.format(effect=p["power"]["effect_nats"], power=p["power"]["power"], least=p["power"]["least_seeds"],
                         most=p["power"]["most_seeds"], tokens=p["endpoint"]["least_tokens"]),
             in_short(plan), "## What has been run\n", progress(plan), "", places(plan), "",
             "## Power analysis\n", PROBE, "", power(plan), "",
             f"With the deviation of that probe (0.010) the plan would ask for {seeds_for(plan, math.sqrt(2) * 0.010)} pairs.\n",
             "## R0: how much do runs differ by themselves\n", noise_section(plan), ""]
    for name, what in plan.experiments.items():
        if what["kind"] == "noise":
            continue
        body = comparison(plan, name)
        parts += [f"## {name}: {what['what']}\n", f"In the paper: {what['paper']}.\n", body or "Not run yet.", ""]
        if name == "R2" and mechanism(plan):
            parts += [mechanism(plan), ""]
        if what.get("routing"):
            found = routing.section(losses_of(plan, name), what["arms"], what.get("clusters"))
            parts += [found, ""] if found else []
    parts += ["## The paper's numbers\n", PAPER_TABLES, "", "## Where the paper contradicts itself\n", CONTRADICTIONS, "",
              "## What was not run\n", NOT_RUN]
    return "\n".join(parts).rstrip() + "\n"


def main():
    root = Path(__file__).resolve().parents[2]
    plan = Plan(sys.argv[1] if len(sys.argv) > 1 else root / "docs/reproduction/plan.json")
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "docs/reproduction.md"
    out.write_text(make(plan), encoding="utf-8")


if __name__ == "__main__":
    main()
