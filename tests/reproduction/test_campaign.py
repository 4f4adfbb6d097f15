#!/usr/bin/env python3
"""Tests of scripts/reproduction: statistics against published tables, and a campaign in miniature that is killed.

    test_campaign.py SOURCES STRAND
"""
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SOURCES, STRAND = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
sys.path[:0] = [str(SOURCES / "scripts/reproduction"), str(SOURCES / "scripts")]
import make_page  # noqa: E402
import plan as plan_module  # noqa: E402
import sample_text  # noqa: E402
import student  # noqa: E402


class Statistics(unittest.TestCase):
    def test_quantiles_are_those_of_printed_tables(self):
        for df, t in ((1, 12.706), (2, 4.303), (4, 2.776), (7, 2.365), (10, 2.228), (30, 2.042)):
            self.assertAlmostEqual(student.t_quantile(0.95, df), t, delta=5e-4)
        self.assertAlmostEqual(student.t_quantile(0.99, 5), 4.032, delta=5e-4)

    def test_power_is_that_of_cohens_tables(self):
        # One sample, two-sided, 5 %: d = 0.5 needs 34 for a power of 0.80, d = 0.8 needs 15, d = 0.2 needs 199.
        for effect, n in ((0.5, 34), (0.8, 15), (0.2, 199)):
            self.assertEqual(student.pairs_for_power(effect, 1.0, 0.8), n)
        self.assertAlmostEqual(student.power_of_paired_test(0.0, 1.0, 10), 0.05, delta=1e-6)

    def test_interval_of_five_numbers(self):
        # 1..5: mean 3, sd sqrt(2.5), half-width 2.776 * sqrt(2.5 / 5) = 1.963.
        found = student.interval([1, 2, 3, 4, 5])
        self.assertAlmostEqual(found.low, 3 - 1.963, delta=1e-3)
        self.assertAlmostEqual(found.high, 3 + 1.963, delta=1e-3)

    def test_holm(self):
        # The example of Holm's procedure with m = 4: 4 * 0.01, then 3 * 0.02, then at least what came before.
        self.assertEqual([round(p, 10) for p in student.holm([0.04, 0.01, 0.02, 0.035])], [0.07, 0.04, 0.06, 0.07])


def decided_from(losses):
    """The decision on made-up losses: {protocol: {(seed, twin): endpoint}}."""
    with tempfile.TemporaryDirectory() as folder:
        content = json.loads((SOURCES / "docs/reproduction/plan.json").read_text())
        content["protocols"] = {"cheap": {"cost": 0.5, "set": []}, "dear": {"cost": 1.0, "set": []}}
        content["experiments"]["R0"].update(protocols=["cheap", "dear"], seeds=[1, 2])
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(content))
        plan = plan_module.Plan(path)
        plan.results.mkdir()
        for run in plan.runs("R0"):
            loss = losses[run.protocol].get((run.seed, run.twin))
            if loss is not None:
                plan.result_file(run).write_text(json.dumps({"endpoint": {"loss": loss, "losses": {"1": loss}}}))
        return plan_module.decide(plan)


class Decision(unittest.TestCase):
    exact = {(1, "a"): 4.0, (1, "b"): 4.002, (2, "a"): 4.004, (2, "b"): 4.006}  # sd 0.002582
    loose = {(1, "a"): 4.0, (1, "b"): 4.03, (2, "a"): 4.06, (2, "b"): 4.02}  # sd 0.025

    def test_less_noise_outweighs_a_double_cost(self):
        found = decided_from({"cheap": self.loose, "dear": self.exact})
        self.assertEqual(found["protocol"], "dear")
        self.assertAlmostEqual(found["sd_of_a_run"], 0.0025820, delta=1e-6)
        self.assertEqual(found["seeds"], 8)  # five would do, and eight is the least

    def test_with_equal_noise_the_cheap_one_wins_and_noise_asks_for_seeds(self):
        found = decided_from({"cheap": self.loose, "dear": self.loose})
        self.assertEqual(found["protocol"], "cheap")
        self.assertEqual(found["seeds"], 24)  # the most that the plan allows

    def test_nothing_is_decided_before_all_is_there(self):
        incomplete = dict(self.exact)
        del incomplete[2, "b"]
        with self.assertRaisesRegex(plan_module.PlanError, "1 runs of R0 are missing"):
            decided_from({"cheap": self.exact, "dear": incomplete})


class Page(unittest.TestCase):
    def test_the_page_is_made_of_the_results(self):
        plan = plan_module.Plan(SOURCES / "docs/reproduction/plan.json")
        self.assertEqual(make_page.make(plan), (SOURCES / "docs/reproduction.md").read_text(),
                         "run scripts/reproduce.sh --page")

    def test_verdicts(self):
        # An effect of 0.02: intervals of four differences with a deviation of 0.001 reach 0.0016 to both sides.
        about = [-0.001225, 0.0, 0.0, 0.001225]
        for middle, effect, word in ((-0.02, 0.02, "reproduced"), (-0.0061, 0.02, "reproduced"),
                                     (0.01, 0.02, "contradicted"), (0.0, 0.02, "no effect"),
                                     (-0.02, -0.02, "contradicted"), (0.02, -0.02, "reproduced")):
            self.assertEqual(make_page.verdict([middle + x for x in about], effect), word, middle)
        self.assertEqual(make_page.verdict([-0.001, -0.02, -0.05], 0.02), "direction only")
        self.assertEqual(make_page.verdict([0.001, -0.02, -0.05], 0.02), "undecided")
        self.assertEqual(make_page.verdict([-0.02, -0.02], 0.02), "too few pairs")


class Miniature(unittest.TestCase):
    """The real campaign with a tiny model, in a folder of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        text = self.folder / "text"
        text.mkdir()
        for i, document in enumerate(sample_text.documents()):
            (text / f"{i}.txt").write_text(document)
        self.strand("train-tokenizer", "text", "--vocab-size", "500", "--out", "t.model")
        self.strand("tokenize", "text", "--tokenizer", "t.model", "--out", "train", "--val-out", "val",
                    "--val-fraction", "0.1")
        content = json.loads((SOURCES / "docs/reproduction/plan.json").read_text())
        content["endpoint"].update(data="val", least_tokens=100)
        content["protocols"] = {"only": {"what": "the only one", "cost": 1, "set": ["train.steps=40", "train.checkpoint_every=1"]}}
        content["experiments"]["R0"].update(protocols=["only"], seeds=[1])
        content["power"].update(least_seeds=1, most_seeds=1)
        self.plan_file = self.folder / "plan.json"
        self.plan_file.write_text(json.dumps(content))
        self.plan = plan_module.Plan(self.plan_file)

    def strand(self, *arguments):
        subprocess.run([STRAND, *arguments], cwd=self.folder, check=True, capture_output=True)

    def command(self, runs, *experiments):
        sets = [f"run.dir={runs}", "run.threads=1", "model.vocab_size=500", "model.hidden_size=32",
                "model.num_layers=2", "model.num_heads=2", "moe.num_experts=4", "moe.expert_ffn=16",
                "data.train=train", "data.tokenizer=t.model", "data.sequence_length=32", "schedule.warmup_steps=2",
                "train.global_batch_size=4", "train.micro_batch_size=4"]
        return [sys.executable, SOURCES / "scripts/reproduction/campaign.py", "--plan", self.plan_file, "--strand", STRAND,
                "--config", SOURCES / "configs/reproduction.yaml", "--priority", "ordinary", *[w for s in sets for w in ("--set", s)], *experiments]

    def losses(self):
        return {f.stem: json.loads(f.read_text())["endpoint"] for f in sorted(self.plan.results.glob("*.json"))}

    def test_a_stopped_campaign_gives_what_an_undisturbed_one_gives(self):
        subprocess.run(self.command("calm", "R0"), cwd=self.folder, check=True)
        calm, decision = self.losses(), self.plan.decision()
        self.assertEqual(len(calm), 2)
        self.assertEqual(set(decision), {"protocol", "seeds", "sd_of_a_run", "sd_of_a_difference",
                                         "variance_times_cost"})
        for run in self.plan.runs("R0"):
            endpoint = self.plan.result(run)["endpoint"]
            self.assertEqual(list(endpoint["losses"]), ["38", "39", "40"])
            self.assertAlmostEqual(endpoint["loss"], sum(endpoint["losses"].values()) / 3, delta=1e-12)
        # The value is the program's own, of the last checkpoint, which stays.
        kept = sorted((self.folder / "calm").glob("*s1a/checkpoints/step_*"))
        self.assertEqual([k.name for k in kept], ["step_00000040"])
        self.strand_says(kept[0], list(calm.values())[0]["losses"]["40"])

        shutil.rmtree(self.plan.results)
        self.plan.decision_file.unlink()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            self.stop_in_the_middle(number)
        subprocess.run(self.command("stopped", "R0"), cwd=self.folder, check=True)
        self.assertEqual(self.losses(), calm)
        self.assertEqual(self.plan.decision(), decision)

    def test_routing_of_the_arms_is_analysed_and_shown(self):
        content = json.loads(self.plan_file.read_text())
        content["experiments"]["R2"]["arms"] = ["lb", "lb,sp,cp"]
        content["power"].update(least_seeds=2, most_seeds=2)
        self.plan_file.write_text(json.dumps(content))
        plan = plan_module.Plan(self.plan_file)
        subprocess.run(self.command("routing", "R0", "R2"), cwd=self.folder, check=True)
        found = make_page.losses_of(plan, "R2")
        self.assertEqual({arm: len(runs) for arm, runs in found.items()}, {"lb": 2, "lb,sp,cp": 2})
        measured = found["lb"][101]["routing"]
        self.assertEqual([stage["steps"] for stage in measured["stages"]],
                         [[1, 2], [2, 3], [4, 5], [8, 9], [20, 21], [39, 40]])
        # What strand says of the last pair, on its own; the checkpoints of earlier stages are gone.
        kept = json.loads((self.folder / "routing/R2_only_lb_s101/analysis/analysis.json").read_text())
        last = [entry for entry in kept["stability"] if entry["steps"] == [39, 40]][0]["top_1"]
        self.assertAlmostEqual(measured["stages"][-1]["stability"]["top_1"], sum(last) / len(last), delta=1e-12)
        self.assertEqual(len(list((self.folder / "routing/R2_only_lb_s101/checkpoints").glob("step_*"))), 1)
        page = make_page.make(plan)
        for words in ("| arm | steps 1 to 2 |", "**Figure 8**", "gain of `lb,sp,cp`"):
            self.assertIn(words, page)
        for line in page.splitlines():
            if line.startswith("|"):
                self.assertTrue(line.endswith("|"), line)  # a cell of two lines would break the table

    def strand_says(self, checkpoint, loss):
        said = subprocess.run([STRAND, "eval", checkpoint, "--data", "val", "--batch-size", "16", "--json"],
                              cwd=self.folder, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertAlmostEqual(json.loads(said.stdout)["ce"], loss, delta=1e-9)

    def stop_in_the_middle(self, number):
        """Signals the campaign once some checkpoint more than before is there."""
        def progress():
            return sum(1 for row in (self.folder / "stopped").glob("*/log.jsonl") for _ in row.read_text().splitlines())
        before = progress()
        campaign = subprocess.Popen(self.command("stopped", "R0"), cwd=self.folder, stderr=subprocess.DEVNULL)
        while campaign.poll() is None and progress() < before + 5:
            time.sleep(0.01)
        campaign.send_signal(number)
        self.assertIn(campaign.wait(), (0, 128 + number))

    def test_what_depends_on_the_noise_waits_for_it(self):
        done = subprocess.run(self.command("early", "R2"), cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("run R0 first", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
