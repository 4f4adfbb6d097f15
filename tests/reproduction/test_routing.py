"""The tables of routing, from made-up analyses whose means and intervals were worked out by hand."""
import copy
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/reproduction"))
import routing  # noqa: E402
import tables  # noqa: E402


def model(step, shift):
    """An entry of analysis.json in which every list has another mean."""
    return {
        "step": step,
        "coupling": {"pairs": [{"kappa": 0.3 + shift, "excess": 0.1 + shift}, {"kappa": 0.5 + shift, "excess": 0.2 + 2 * shift}]},
        "sharpness": {"token_entropy": [0.9 + shift, 0.7 + shift], "top_k": [0.4 + shift, 0.5 + shift]},
        "load": {"max_violation": [1.0 + shift, 3.0 + shift]},
        "overlap": {"z": {"mean_squared_cosine": [0.01, 0.03 + shift]}, "y": {"mean_squared_cosine": [0.2, 0.4 + shift]}},
        "placement": [{"ranks": 2, "round_robin": {"path": 0.5}, "placed": {"path": 0.6 + shift}, "sweeps": 3},
                      {"ranks": 4, "round_robin": {"path": 0.25}, "placed": {"path": 0.3 + 2 * shift}, "sweeps": 4}],
    }


def analysis(shift):
    stability = [{"steps": [a, b], "top_1": [0.4 + x + shift, 0.6 + x + shift], "top_k": [0.1 + x, 0.3 + x], "set": [x, 0.2 + x]}
                 for a, b, x in ((10, 20, 0.0), (20, 30, 0.2))]
    # Of another order than the stages, with a step that no stage ends in.
    return {"models": [model(30, shift), model(10, 7.0), model(20, shift + 0.05)], "stability": stability[::-1]}


STAGES = [(10, 20), (20, 30)]


def runs(*shifts):
    return {seed: {"routing": routing.summary(analysis(shift), STAGES)} for seed, shift in zip((101, 102, 103), shifts)}


# Differences of 0.1, 0.2 and 0.3: mean 0.2, standard deviation 0.1, and t(0.975; 2) = 4.3027, so that half of the
# interval is 4.3027 · 0.1 / √3 = 0.2484.
FOUND = {"none": runs(0.0, 0.1, 0.2), "cp": runs(0.1, 0.3, 0.5)}
BY_FIFTH = "+0.2000 (−0.0484 to +0.4484)"
TWICE = "+0.4000 (−0.0968 to +0.8968)"


def cells(text):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if not line.startswith("|---")]


class Summary(unittest.TestCase):
    def test_each_stage_has_the_model_it_ends_with_and_its_own_stability(self):
        first, last = routing.summary(analysis(0.0), STAGES)["stages"]
        self.assertEqual(first["steps"], [10, 20])
        self.assertAlmostEqual(first["stability"]["top_1"], 0.5)
        self.assertAlmostEqual(last["stability"]["top_1"], 0.7)
        self.assertAlmostEqual(last["stability"]["top_k"], 0.4)
        self.assertAlmostEqual(last["stability"]["set"], 0.3)
        self.assertAlmostEqual(first["token_entropy"], 0.85)  # of step 20
        self.assertAlmostEqual(last["token_entropy"], 0.8)
        self.assertEqual(last["kappa"], [0.3, 0.5])
        self.assertEqual(last["kappa_excess"], [0.1, 0.2])
        self.assertAlmostEqual(last["top_k_mass"], 0.45)
        self.assertAlmostEqual(last["max_violation"], 2.0)
        self.assertAlmostEqual(last["squared_cosine_z"], 0.02)
        self.assertAlmostEqual(last["squared_cosine_y"], 0.3)

    def test_placement_and_clusters_are_those_of_the_last_model(self):
        found = routing.summary(analysis(0.1), STAGES, {"models": [{"clusters": {"uniform": 0.25}}]})
        self.assertEqual([entry["ranks"] for entry in found["placement"]], [2, 4])
        self.assertAlmostEqual(found["placement"][1]["placed"]["path"], 0.5)
        self.assertEqual(found["clusters"], {"uniform": 0.25})
        self.assertNotIn("clusters", routing.summary(analysis(0.1), STAGES))


class Numbers(unittest.TestCase):
    def test_what_is_not_zero_is_not_shown_as_zero(self):
        self.assertEqual(tables.number(0.00203), "+0.0020")
        self.assertEqual(tables.number(-0.0000213), "−0.00002")
        self.assertEqual(tables.plain(0.0000002, 3), "0.0000002")
        self.assertEqual(tables.number(0.0), "+0.0000")


class Tables(unittest.TestCase):
    def test_stability(self):
        self.assertEqual(cells(routing.stability_table(FOUND, ["none", "cp"])), [
            ["arm", "steps 10 to 20", "steps 20 to 30"],
            ["`none`", "0.6000", "0.8000"],
            ["`cp`", "0.8000", "1.0000"],
            ["`cp` − `none`", BY_FIFTH, BY_FIFTH]])

    def test_differences_are_of_the_same_seed_and_of_seeds_that_both_arms_have(self):
        found = {"none": FOUND["none"], "cp": {103: FOUND["cp"][103], 101: FOUND["cp"][101], 104: FOUND["cp"][102]}}
        found["cp"][103] = FOUND["cp"][102]
        # Seeds 101 and 103: differences of 0.1 each.
        self.assertEqual(cells(routing.stability_table(found, ["none", "cp"]))[-1][1], "+0.1000 (+0.1000 to +0.1000)")

    def test_an_arm_with_one_run_has_no_row_and_no_interval(self):
        found = {"none": FOUND["none"], "cp": {101: FOUND["cp"][101]}}
        self.assertEqual([row[0] for row in cells(routing.stability_table(found, ["none", "cp"]))], ["arm", "`none`", "`cp` − `none`"])
        self.assertEqual(cells(routing.stability_table(found, ["none", "cp"]))[-1][1], "–")

    def test_sharpness_is_that_of_the_end(self):
        rows = {row[0]: row[1:] for row in cells(routing.sharpness_table(FOUND, ["none", "cp"]))[1:]}
        self.assertEqual(rows["token entropy / ln E"], ["0.9000", BY_FIFTH])
        self.assertEqual(rows["mass of the top-K"], ["0.5500", BY_FIFTH])
        self.assertEqual(rows["κ, mean of the pairs"], ["0.5000", BY_FIFTH])
        half = "+0.1000 (−0.0242 to +0.2242)"  # one layer of two moves
        self.assertEqual(rows["cos² of z"], ["0.0700", half])
        self.assertEqual(rows["cos² of outputs y"], ["0.3500", half])
        self.assertEqual(rows["MaxVio"], ["2.1000", BY_FIFTH])

    def test_depth_counts_the_runs_in_which_kappa_rises(self):
        found = copy.deepcopy(FOUND)
        found["cp"][102]["routing"]["stages"][-1]["kappa_excess"] = [0.8, 0.7]
        self.assertEqual(cells(routing.depth_table(found, ["none", "cp"])), [
            ["κ in excess", "layers 0 → 1", "layers 1 → 2", "runs in which it rises with depth"],
            ["`none`", "0.2000", "0.4000", "3 of 3"],
            ["`cp`", "0.5333", "0.7667", "2 of 3"]])

    def test_placement_compares_gains(self):
        self.assertEqual(cells(routing.placement_table(FOUND, ["none", "cp"])), [
            ["ranks", "`none`, round-robin", "`none`, placed", "gain of `cp` − gain of `none`"],
            ["2", "0.5000", "0.7000", BY_FIFTH],
            ["4", "0.2500", "0.5000", TWICE]])

    def test_clusters(self):
        def run(balanced):
            return {"routing": {"clusters": {"uniform": 0.25, "pairs": [
                {"lower": 1, "upper": 2, "balanced": balanced, "unbalanced": 0.5, "router": 0.4}]}}}

        self.assertEqual(cells(routing.cluster_table({"none": {1: run(0.2), 2: run(0.4)}}, "none")), [
            ["layers", "balanced clusters", "clusters as found", "κ of the router", "chance", "runs above chance"],
            ["1 → 2", "0.3000", "0.5000", "0.4000", "0.2500", "1 of 2"]])

    def test_a_section_wants_two_runs_of_its_first_arm(self):
        self.assertEqual(routing.section({"none": {101: FOUND["none"][101]}}, ["none"], clusters=False), "")
        text = routing.section(FOUND, ["none", "cp"], clusters=False)
        for title in ("Table 10", "Sharper and more coupled?", "Figure 8", "Table 13 by counts"):
            self.assertIn(f"**{title}", text)


if __name__ == "__main__":
    unittest.main()
