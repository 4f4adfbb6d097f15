"""The oracle regenerates every reference file, notices a wrong one, and makes new ones."""

import contextlib
import io
import json
import os
import subprocess
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import case_file
import central_differences
import check
import make_case
import oracle
from case_config import TERMS, CaseError, Config, config_from_json, config_to_json

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
CASES = HERE / "cases"
STRAND = os.environ.get("STRAND", "")  # the program, for `strand verify` on a new file


def quietly(function: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str]:
    """Result and output of a command's main()."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        return function(arguments), text.getvalue()


class StoredFiles(unittest.TestCase):
    def test_every_file_is_regenerated(self) -> None:
        files = sorted(DATA.glob("*.safetensors"))
        self.assertGreaterEqual(len(files), 26)
        for path in files:
            with self.subTest(path.name):
                report = case_file.check(path)
                self.assertEqual(report.problems, [])
                self.assertEqual(report.errors.keys(), case_file.TOLERANCES.keys())

    def test_wrong_files_are_noticed(self) -> None:
        case, stored = case_file.read_case(DATA / "cp_token_activated.safetensors")
        names = [name for name in stored if name.startswith("termgrad.")]
        got = case_file.compute(case, names).tensors
        self.assertEqual(case_file.compare(case, stored, got).problems, [])
        router = "layers.1.moe.router.weight"
        bad = {
            f"grad.{router}": lambda t: t * 1.01,
            f"termgrad.cp.{router}": lambda t: t * 1.01,
            f"traj.param.{router}": lambda t: t * 1.001,
            "grad.norm.weight": lambda t: t * float("nan"),
            "out.loss": lambda t: t + 1e-5,
            "out.term.sp": lambda t: t * 1.01,
            "out.logits": lambda t: t.flip(0),
            "out.selected": lambda t: t.flip(-1),
            "out.counts": lambda t: t + 1,
            "out.router_logits": lambda t: t.to(torch.float64),
            "traj.lr": lambda t: t * 1.0001,
            "traj.grad_norm": lambda t: t[:-1],
        }
        for name, change in bad.items():
            with self.subTest(name):
                wrong = stored | {name: change(stored[name])}
                problems = case_file.compare(case, wrong, got).problems
                self.assertEqual(len(problems), 1)
                self.assertTrue(problems[0].startswith(name))
        without = {name: tensor for name, tensor in stored.items() if name != "out.term.ce"}
        self.assertEqual(case_file.compare(case, without, got).problems, ["out.term.ce is missing"])
        extra = stored | {"out.term.x": torch.zeros(1)}
        self.assertEqual(len(case_file.compare(case, extra, got).problems), 1)

    def test_check_exits_with_1_on_a_gradient_scaled_by_1_01(self) -> None:
        source = DATA / "sp_only.safetensors"
        with safe_open(source, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(source)
        tensors["grad.layers.0.moe.router.weight"] *= 1.01
        with tempfile.TemporaryDirectory() as folder:
            wrong = Path(folder) / "wrong.safetensors"
            save_file(tensors, wrong, metadata)
            nothing = Path(folder) / "nothing.safetensors"
            nothing.write_bytes(b"no tensors here")
            status, text = quietly(check.main, [str(source), str(wrong), str(nothing)])
        self.assertEqual(status, 1)
        lines = text.splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["ok", "FAIL", "FAIL"])
        self.assertIn("grad.layers.0.moe.router.weight is off by 9.9e-03", lines[1])
        self.assertEqual(quietly(check.main, [str(source)])[0], 0)
        self.assertEqual(quietly(check.main, [])[0], 2)


class Derivatives(unittest.TestCase):
    """No autograd here: a term's gradient is what central differences of its value say."""

    def test_central_differences_of_every_term(self) -> None:
        for path in sorted(CASES.glob("*.json")):
            with self.subTest(path.name):
                text = make_case.read_text(path)
                found = central_differences.errors(make_case.draw(text, text.seed))
                self.assertEqual(found.keys(), set(TERMS))
                for term, error in found.items():
                    self.assertLess(error, central_differences.TOLERANCE, term)

    def test_proposition_4_1(self) -> None:
        """One token: the gradients of two experts' down projections are as similar as their z."""
        c = Config(num_layers=1, top_k=2, micro_batches=(1,))
        text = make_case.CaseText("", "", c, 1, 0, [], [], make_case.Spread(), 0.0)
        case = make_case.draw(text, 3)
        params = oracle.with_gradients(case.params)
        out = oracle.forward(c, params, case.tokens_bs)
        grads = oracle.gradients(oracle.terms(c, out, case.targets_bs)["ce"], params)
        first, second = (
            grads[f"layers.0.moe.experts.{e}.down_proj.weight"].flatten()
            for e in out.routing[0].selected_tk[0].tolist()
        )
        of_gradients = torch.cosine_similarity(first, second, dim=0)
        z_kf = out.routing[0].z_tkf[0]
        of_z = torch.cosine_similarity(z_kf[0], z_kf[1], dim=0)
        torch.testing.assert_close(of_gradients, of_z)


class Objective(unittest.TestCase):
    def test_a_step_without_valid_targets_has_no_cross_entropy(self) -> None:
        c = Config(lb_weight=0.1)
        everywhere = [(sequence, position) for sequence in range(2) for position in range(3)]
        text = make_case.CaseText("", "", c, 3, 0, everywhere, [], make_case.Spread(), 0.0)
        got = case_file.compute(make_case.draw(text, 0), ["termgrad.ce.norm.weight"]).tensors
        self.assertEqual(got["out.term.ce"].item(), 0)
        self.assertEqual(got["termgrad.ce.norm.weight"].abs().max().item(), 0)
        self.assertAlmostEqual(got["out.loss"].item(), 0.1 * got["out.term.lb"].item(), 12)


class NewFiles(unittest.TestCase):
    def make(self, case: Path, out: Path, *options: str) -> None:
        status, text = quietly(make_case.main, [str(case), str(out), *options])
        self.assertEqual(status, 0, text)
        self.assertIn("smallest gaps", text)

    def test_a_new_file_passes_check_and_is_the_same_every_time(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for case in sorted(CASES.glob("*.json")):
                with self.subTest(case.name):
                    first, second = Path(folder) / "1.safetensors", Path(folder) / "2.safetensors"
                    self.make(case, first)
                    self.make(case, second)
                    self.assertEqual(case_file.check(first).problems, [])
                    again = load_file(second)
                    for name, tensor in load_file(first).items():
                        self.assertTrue(torch.equal(tensor, again[name]), name)

    @unittest.skipUnless(STRAND, "the environment variable STRAND does not name the program")
    def test_a_new_file_passes_strand_verify(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for case in ("every_term", "latent_attention"):
                path = Path(folder) / f"{case}.safetensors"
                self.make(CASES / f"{case}.json", path)
                for options in (["--device", "reference", "--precision", "fp64"], ["--threads", "1"]):
                    command = [STRAND, "verify", *options, str(path)]
                    run = subprocess.run(command, capture_output=True, text=True)
                    self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_near_ties_are_refused(self) -> None:
        text = json.loads((CASES / "every_term.json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            case, out = Path(folder) / "tied.json", Path(folder) / "out.safetensors"
            text["spread"] = {"router": 1e-4, "bias": 0.0}  # all scores are almost the same
            case.write_text(json.dumps(text))
            status, message = quietly(make_case.main, [str(case), str(out)])
            self.assertEqual(status, 1)
            self.assertRegex(message, "nearly tied at seed 2 .*edge gap .* needed 2e-03")
            self.assertFalse(out.exists())

    def test_mistakes_in_a_case_are_named(self) -> None:
        good: dict[str, object] = {"config": {"top_k": 2}}
        mistakes: list[tuple[dict[str, object], str]] = [
            ({"confg": {}}, "confg"),
            ({"config": {"top_k": 2.5}}, "top_k is 2.5, but must be int"),
            ({"config": {"tied_embeddings": 1}}, "tied_embeddings"),
            ({"config": {"topk": 2}}, "unknown key, topk"),
            ({"config": {"score": "relu"}}, "score is 'relu'.*softmax, sigmoid"),
            ({"config": {"top_k": 7}}, "top_k is above num_experts"),
            ({"config": {"groups": 4}}, "groups does not divide num_experts"),
            ({"config": {"micro_batches": [1, 2]}}, "micro_batches"),
            ({"config": {"attention": "mla"}}, "kv_latent is 0"),
            ({"config": {"rope_fraction": 0.3}}, "rope_fraction"),
            ({"config": {"num_layers": 1, "dense_layers": 1, "dense_ffn": 4}}, "dense_layers"),
            ({"termgrad": ["xy"]}, "xy"),
            ({"ignored_targets": [[5, 0]]}, "ignored_targets"),
            ({"sequence_length": 0}, "sequence_length"),
            ({"spread": {"weight": 1.0}}, "spread has weight"),
        ]
        for change, message in mistakes:
            with self.subTest(message), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "case.json"
                path.write_text(json.dumps(good | change))
                with self.assertRaisesRegex(CaseError, message):
                    make_case.read_text(path)

    def test_configs_are_written_for_readers_older_than_a_feature(self) -> None:
        plain = json.loads(config_to_json(Config()))
        self.assertNotIn("entropy_weight", plain)
        self.assertIn("o_weight", plain)
        self.assertEqual(config_from_json(plain, "here", complete=True), Config())
        del plain["o_weight"]
        with self.assertRaisesRegex(CaseError, "here: the config has no o_weight"):
            config_from_json(plain, "here", complete=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main()
