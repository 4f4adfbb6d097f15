"""The plan of the campaign (docs/reproduction/plan.json): which runs there are, in which order, with which settings."""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import student


class PlanError(Exception):
    """What to tell the user."""


@dataclass(frozen=True)
class Run:
    experiment: str
    protocol: str
    arm: str
    seed: int
    twin: str  # "a"; in a study of noise also "b", whose learning rate differs in the last digits
    settings: tuple  # "key=value", in the order in which they are given; of equal keys the last one counts

    @property
    def name(self):
        arm = self.arm.replace(", ", "-").replace(",", "-")
        return f"{self.experiment}_{self.protocol}_{arm}_s{self.seed}{self.twin if self.experiment == 'R0' else ''}"


class Plan:
    def __init__(self, path):
        self.path = Path(path)
        self.content = json.loads(self.path.read_text(encoding="utf-8"))
        self.results = self.path.parent / "results"
        self.decision_file = self.path.parent / "decision.json"

    @property
    def experiments(self):
        return self.content["experiments"]

    def experiment(self, name):
        if name not in self.experiments:
            raise PlanError(f"{self.path} has no experiment '{name}': use {', '.join(self.experiments)}")
        return self.experiments[name]

    def decision(self):
        """What the study of noise decided, or None before it is complete."""
        if not self.decision_file.exists():
            return None
        return json.loads(self.decision_file.read_text(encoding="utf-8"))

    def runs(self, name):
        """In the order in which they are done. Arms take turns seed by seed, so that what is there is always balanced.
        An experiment whose protocol is not decided yet has none."""
        what = self.experiment(name)
        protocols, arms = self.content["protocols"], self.content["arms"]
        if what["kind"] == "noise":
            for protocol in what["protocols"]:
                for seed in what["seeds"]:
                    for twin in "ab":
                        settings = protocols[protocol]["set"] + arms[what["arm"]] + [f"run.seed={seed}"]
                        settings += [what["twin"]] if twin == "b" else []
                        yield Run(name, protocol, what["arm"], seed, twin, tuple(settings))
            return
        decision = self.decision()
        if decision is None:
            return
        protocol = decision["protocol"]
        for seed in range(what["first_seed"], what["first_seed"] + decision["seeds"]):
            for arm in what["arms"]:
                settings = protocols[protocol]["set"] + self.content.get(what.get("also", ""), []) + arms[arm]
                yield Run(name, protocol, arm, seed, "a", tuple(settings + [f"run.seed={seed}"]))

    def result_file(self, run):
        return self.results / f"{run.name}.json"

    def result(self, run):
        path = self.result_file(run)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# ---- the study of noise -----------------------------------------------------------------------------------------------


@dataclass
class Noise:
    """How runs of one protocol scatter, in nats of the endpoint."""
    protocol: str
    runs: int
    mean: float
    sd: float  # of all runs about their mean
    twin_differences: list
    last_sd: float  # the same as sd, of the last checkpoint alone instead of the mean of three

    @property
    def twin_rms(self):
        """Root mean square of the differences of twins, whose expectation is 0; NaN without a pair."""
        d = self.twin_differences
        return math.sqrt(math.fsum(x * x for x in d) / len(d)) if d else math.nan


def noise(plan, name="R0"):
    """One entry a protocol that has two runs or more."""
    found = []
    results = [(run, plan.result(run)) for run in plan.runs(name)]
    for protocol in plan.experiment(name)["protocols"]:
        rows = {(run.seed, run.twin): result for run, result in results if run.protocol == protocol and result}
        if len(rows) < 2:
            continue
        losses = {key: row["endpoint"]["loss"] for key, row in rows.items()}
        last = [list(row["endpoint"]["losses"].values())[-1] for row in rows.values()]
        twins = [losses[seed, "a"] - losses[seed, "b"] for seed, twin in losses if twin == "b" and (seed, "a") in losses]
        values = list(losses.values())
        found.append(Noise(protocol, len(values), student.mean(values), student.deviation(values), twins,
                           student.deviation(last)))
    return found


def seeds_for(plan, sd_of_difference):
    """Pairs that a comparison is planned with: enough for the power that the plan asks for, within its limits."""
    p = plan.content["power"]
    needed = student.pairs_for_power(p["effect_nats"], sd_of_difference, p["power"], 2, p["most_seeds"])
    return max(p["least_seeds"], needed)


def decide(plan, name="R0"):
    """The protocol for which variance times cost is least: with a given computing time its intervals are the
    shortest. Needs every run of the study. The choice cannot make a later interval wrong, because those are
    taken from later runs alone; a poor one only makes them longer."""
    missing = sum(plan.result(run) is None for run in plan.runs(name))
    if missing:
        raise PlanError(f"{missing} runs of {name} are missing: nothing can be decided yet")
    costs = {key: value["cost"] for key, value in plan.content["protocols"].items()}
    rows = noise(plan, name)
    best = min(rows, key=lambda row: row.sd ** 2 * costs[row.protocol])
    sd_of_difference = math.sqrt(2) * best.sd
    return {
        "protocol": best.protocol,
        "seeds": seeds_for(plan, sd_of_difference),
        "sd_of_a_run": best.sd,
        "sd_of_a_difference": sd_of_difference,
        "variance_times_cost": {row.protocol: row.sd ** 2 * costs[row.protocol] for row in rows},
    }
