#!/usr/bin/env python3
"""Runs the campaign of docs/reproduction/plan.json, as many training runs at a time as there are cores, each with one
thread; scripts/reproduce.sh starts it.

    campaign.py [--plan FILE] [--strand PROGRAM] [--config FILE] [--set KEY=VALUE ...] [--jobs N] [--priority ordinary]
                [EXPERIMENT ...]

It can be stopped at any point (a signal, a power cut): a run goes on from its newest checkpoint, which gives the same
bits, and a run whose result is there is skipped. Nothing of a result is kept that another program or processor began.
"""
import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import routing
import tables
from plan import Plan, PlanError, decide

TENTHS = 10


class Stopped(Exception):
    """A signal asked for the end."""


def be_modest():
    """The lowest priority there is: any other program goes first."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except OSError:
            pass  # some containers forbid it; nice stays


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def write_whole(path, text):
    """The file is there with all of the text, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name("." + path.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def in_lines(content):
    """As JSON with a line for each key, which is short, and readable where it changes."""
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()) + "\n}\n"


def processor():
    try:
        for line in open("/proc/cpuinfo", encoding="utf-8", errors="replace"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Campaign:
    def __init__(self, plan, strand, config, sets):
        self.plan, self.strand, self.config, self.sets = plan, str(Path(strand).resolve()), str(config), sets
        self.children, self.stopped_by = set(), 0
        resolved = self.output("config", self.config, *self.set_arguments(()))
        self.runs_directory = Path(self.value(resolved, "run", "dir"))
        self.validation = str(plan.content["endpoint"]["data"])
        training = re.search(r"^  train: \[\{path: \"?([^,\"}]+)", resolved, re.M)
        if not training:
            raise PlanError("strand config prints no data.train")
        data = [training.group(1), self.validation]
        self.place = {
            "cpu": processor(),
            "program": ", ".join(self.output("--version").splitlines()),
            "program_sha256": digest(self.strand),
            "isa": os.environ.get("STRAND_ISA", "the best of this processor"),
            "data_sha256": {Path(p).name: digest(p + ".bin") for p in data},
        }

    # ---- the program ----------------------------------------------------------------------------------------------

    def set_arguments(self, settings):
        return [word for setting in [*self.sets, *settings] for word in ("--set", setting)]

    @staticmethod
    def value(yaml, group, key):
        """Of a resolved configuration, which strand prints with one key a line."""
        found = re.search(rf"^{group}:\n(?:  .*\n)*?  {key}: (.*)$", yaml, re.M)
        if not found:
            raise PlanError(f"strand config prints no {group}.{key}")
        return found.group(1).split(" #")[0].strip().strip('"')

    def output(self, *arguments):
        done = subprocess.run([self.strand, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise PlanError(f"strand {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def call(self, arguments, log):
        """Like output, but a signal to this program reaches the called one, which then saves what it has."""
        with open(log, "a", encoding="utf-8") as file:
            child = subprocess.Popen([self.strand, *arguments], stdout=file, stderr=subprocess.STDOUT)
            self.children.add(child)
            if self.stopped_by:  # the signal came before the child was in the set
                child.send_signal(signal.SIGTERM)
            code = child.wait()
            self.children.discard(child)
        self.end_if_stopped()
        if code != 0:
            tail = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise PlanError(f"strand {' '.join(arguments[:2])} ended with {code}: {' '.join(tail)} ({log})")

    def stop(self, number, _frame):
        """Every run that is under way saves what it has and ends, and no other one begins."""
        self.stopped_by = number
        for child in list(self.children):
            child.send_signal(signal.SIGTERM)  # call() waits for its end

    def end_if_stopped(self):
        if self.stopped_by:
            raise Stopped()

    # ---- one run ----------------------------------------------------------------------------------------------------

    def do(self, run):
        of_routing = self.plan.experiment(run.experiment).get("routing")
        settings = self.set_arguments([*run.settings, f"run.name={run.name}"])
        resolved = self.output("config", self.config, *settings)
        steps = int(self.value(resolved, "train", "steps"))
        if of_routing:  # its checkpoints stay until it is analysed
            settings += ["--set", f"train.keep_every={self.value(resolved, 'train', 'checkpoint_every')}"]
        endpoint = self.plan.content["endpoint"]
        at = [round(share * steps) for share in endpoint["evaluate_at"]]
        directory = self.runs_directory / run.name
        self.begin_anew_elsewhere(directory)
        log = directory / "campaign.log"
        self.call(["train", self.config, *settings, "--resume", "auto"], log)
        rows = [json.loads(line) for line in open(directory / "log.jsonl", encoding="utf-8")]
        if rows[-1]["step"] != steps:
            raise PlanError(f"{directory}: training ended at step {rows[-1]['step']} of {steps}")
        evaluations = {step: self.evaluate(directory, step) for step in at}
        tokens = evaluations[steps]["tokens"]
        if tokens < endpoint["least_tokens"]:
            raise PlanError(f"{self.validation}: {tokens} tokens are fewer than the plan's {endpoint['least_tokens']}")
        measured = self.result(run, rows, evaluations, resolved, log)
        if of_routing:
            measured["routing"] = self.analyse(directory, self.plan.experiment(run.experiment), steps)
        write_whole(self.plan.result_file(run), in_lines(measured))
        for checkpoint in sorted((directory / "checkpoints").glob("step_*"))[:-1]:
            shutil.rmtree(checkpoint)

    def begin_anew_elsewhere(self, directory):
        """A run that another program, processor, device or text began would be of two kinds: it starts again."""
        stamp = directory / "place.json"
        here = json.dumps({**self.place, "sets": self.sets}, sort_keys=True)
        if directory.exists() and (not stamp.exists() or stamp.read_text(encoding="utf-8") != here):
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(stamp, here)

    def evaluate(self, directory, step):
        kept = directory / f"evaluation_{step}.json"
        if not kept.exists():
            checkpoint = directory / "checkpoints" / f"step_{step:08d}"
            write_whole(kept, self.output("eval", str(checkpoint), "--data", self.validation, "--batch-size", "16", "--json"))
        return json.loads(kept.read_text(encoding="utf-8"))

    def analyse(self, directory, experiment, steps):
        """The routing at the stages that the plan names, on held-out text; clusters of tokens where it asks for them."""
        what, kept = self.plan.content["routing"], directory / "analysis"
        stages = [[round(share * steps) for share in pair] for pair in what["stages"]]
        clusters = what["cluster_tokens"] if experiment.get("clusters") else 0
        if not (kept / "complete").exists():
            checkpoints = sorted({step for pair in stages for step in pair})
            self.output("analyse", *[f"{directory}@{step}" for step in checkpoints], "--data", f"held-out={self.validation}",
                        "--tokens", str(what["tokens"]), "--out", str(kept))
            if clusters:
                self.output("analyse", f"{directory}@{steps}", "--data", f"held-out={self.validation}", "--tokens",
                            str(what["tokens"]), "--clusters", str(clusters), "--out", str(kept / "clusters"))
            write_whole(kept / "complete", "")
        return routing.summary(json.loads((kept / "analysis.json").read_text(encoding="utf-8")), stages,
                               json.loads((kept / "clusters/analysis.json").read_text(encoding="utf-8")) if clusters else None)

    def result(self, run, rows, evaluations, resolved, log):
        measured = [row for row in rows if "expert_load" in row]
        names = [key for key in ("ce", "lb", "z", "sp", "cp", "o", "v", "entropy") if key in measured[-1]]
        steps = rows[-1]["step"]
        tenths = {name: [] for name in names}
        for tenth in range(TENTHS):
            part = [r for r in measured if tenth * steps < r["step"] * TENTHS <= (tenth + 1) * steps]
            for name in names:
                tenths[name].append(tables.rounded(sum(r[name] for r in part) / len(part)) if part else None)
        last = evaluations[max(evaluations)]
        losses = {str(step): evaluation["ce"] for step, evaluation in evaluations.items()}
        trained = [row for row in rows if row["step"] > 0]
        seconds = sum((b["tokens"] - a["tokens"]) / b["tokens_per_second"] for a, b in zip([{"tokens": 0}, *trained], trained))
        device = re.search(r"^(?:instructions of the kernels: .*|.* multiprocessors, .*)$",
                           log.read_text(encoding="utf-8", errors="replace"), re.M)
        return {
            "run": run.name, "experiment": run.experiment, "protocol": run.protocol, "arm": run.arm, "seed": run.seed,
            "twin": run.twin, "settings": [*self.sets, *run.settings],
            "endpoint": {"loss": sum(losses.values()) / len(losses), "losses": losses, "tokens": last["tokens"]},
            "terms_on_validation": {name: tables.rounded(last[name]) for name in names if name in last},
            "worst_expert_load": last["worst_expert_load"],
            "terms_by_tenth_of_training": tenths,
            "training": {"steps": steps, "tokens": trained[-1]["tokens"], "seconds": round(seconds, 3),
                         "skipped": sum(1 for row in trained if row["loss"] is None)},
            "place": {**self.place, "device": device.group(0).strip() if device else ""},
            "configuration_sha256": hashlib.sha256(resolved.encode()).hexdigest(),
            "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        }

    # ---- all of them ------------------------------------------------------------------------------------------------

    def do_all(self, todo, jobs):
        """In their order, so many at a time. The first error ends it, when the runs beside it are at their end."""
        waiting, failures, lock = list(todo), [], threading.Lock()

        def work():
            while True:
                with lock:
                    if not waiting or failures:
                        return
                    run = waiting.pop(0)
                begin = time.monotonic()
                try:
                    self.end_if_stopped()
                    self.do(run)
                except Exception as failure:  # pylint: disable=broad-except  # raised again below
                    failures.append(failure)
                    return
                loss = self.plan.result(run)["endpoint"]["loss"]
                print(f"{run.name}: {loss:.6f} nats, {time.monotonic() - begin:.0f} s", flush=True)

        workers = [threading.Thread(target=work) for _ in range(min(jobs, len(todo)))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]

    def go(self, names, jobs):
        for name in names:
            if self.plan.experiment(name)["kind"] != "noise" and self.plan.decision() is None:
                raise PlanError(f"{name} needs the decision of the study of noise: run R0 first")
            todo = [run for run in self.plan.runs(name) if not self.plan.result_file(run).exists()]
            print(f"{name}: {len(todo)} of {len(list(self.plan.runs(name)))} runs to do", flush=True)
            self.do_all(todo, jobs)
            if self.plan.experiment(name)["kind"] == "noise" and self.plan.decision() is None:
                write_whole(self.plan.decision_file, json.dumps(decide(self.plan, name), indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--plan", default=root / "docs/reproduction/plan.json")
    parser.add_argument("--strand", default=root / "build/strand")
    parser.add_argument("--config", default=root / "configs/reproduction.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="in every run")
    parser.add_argument("--priority", choices=("lowest", "ordinary"), default="lowest", help="of all that is run")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
                        help="runs at a time, each with one thread; default: as many as there are cores to use")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs takes a number from 1")
    if arguments.priority == "lowest":
        be_modest()
    os.environ["OMP_NUM_THREADS"] = "1"  # the evaluations too
    try:
        plan = Plan(arguments.plan)
        campaign = Campaign(plan, arguments.strand, arguments.config, arguments.set)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, campaign.stop)
        campaign.go(arguments.experiments or list(plan.experiments), arguments.jobs)
    except Stopped:
        sys.exit(128 + campaign.stopped_by)
    except (PlanError, OSError) as error:
        sys.exit(f"campaign.py: error: {error}")


if __name__ == "__main__":
    main()
