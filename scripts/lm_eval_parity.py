"""lm-evaluation-harness on an export of a model, and `strand eval --tasks` on the model: the same answers and scores.

scripts/hf_parity.py runs this as one of its cases. Every request of every benchmark is compared, on the sample files in
tests/tasks/data, with a model whose sequences are so short that most contexts have to be cut.

Tolerance: a log-likelihood is a sum of up to a hundred logits of single precision, each within 1e-5. Where the two
likeliest choices are closer to each other than that, they may change places.
"""
import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/tasks/data"
TOLERANCE = 1e-3
# A page of WikiText that begins with BOS has it scored as a token by the harness, given itself. strand never scores it.
WITHOUT_BOS = ["wikitext"]


def harness():
    """The package, without a network and with a cache of its own."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    os.environ["HF_HOME"] = tempfile.mkdtemp()  # data sets are remembered there by their contents
    sys.path.insert(0, str(ROOT / "tests/tasks"))
    import make_golden
    return make_golden


def by_harness(golden, folder, names, model, bos):
    import lm_eval
    arguments = f"pretrained={model},dtype=float32,add_bos_token={bos}"
    return lm_eval.simple_evaluate(
        model="hf", model_args=arguments, tasks=[f"strand_{name}" for name in names], device="cpu", batch_size=1,
        task_manager=lm_eval.tasks.TaskManager(include_path=str(folder)), bootstrap_iters=0, log_samples=True,
        verbosity="ERROR")


def answers(sample):
    """[(ℓ, greedy)] of a sample, of the harness or of strand."""
    found = []
    for response in sample["resps"]:
        value = response[0]
        if isinstance(value, (list, tuple)):
            found.append((float(value[0]), str(value[1]) == "True"))
        else:
            found.append((float(value), None))
    return found


def texts(arguments):
    """The arguments of a sample as lists of strings: the harness has tuples before it writes them."""
    if isinstance(arguments, dict):
        return [list(arguments[f"gen_args_{i}"].values()) for i in range(len(arguments))]
    return [list(a) for a in arguments]


def compare_samples(check, name, theirs, ours):
    check(len(theirs) == len(ours), f"{name}: {len(ours)} documents, the harness has {len(theirs)}")
    worst = 0.0
    by_number = {sample["doc_id"]: sample for sample in theirs}
    for sample in ours:
        other = by_number[sample["doc_id"]]
        where = f"{name}, document {sample['doc_id']}"
        check(texts(sample["arguments"]) == texts(other["arguments"]), f"{where}: other texts")
        check(sample["prompt_hash"] == other["prompt_hash"], f"{where}: another prompt_hash")
        for (mine, my_greedy), (ell, greedy) in zip(answers(sample), answers(other), strict=True):
            worst = max(worst, abs(mine - ell))
            check(abs(mine - ell) <= TOLERANCE, f"{where}: log-likelihood {mine}, the harness has {ell}")
            check(my_greedy == greedy, f"{where}: greedy {my_greedy}, the harness has {greedy}")
    return worst


def compare_metrics(check, name, theirs, ours):
    for key, value in theirs.items():
        if not key.endswith(",none") or not isinstance(value, float):
            continue
        mine = ours[key]
        if key.startswith("perplexity_stderr"):
            continue  # the harness's is a bootstrap
        check(isinstance(mine, float), f"{name}: {key} is {mine}, the harness has {value}")
        check(abs(mine - value) <= TOLERANCE * max(1.0, abs(value)), f"{name}: {key} {mine}, the harness has {value}")


def run(bench, check):
    """`bench` trains, exports and runs strand (scripts/hf_parity.py); `check` raises when its first argument is false."""
    golden = harness()
    checkpoint = bench.train("lm_eval", {"moe.renormalize": True})
    export = bench.folder / "lm_eval_hf"
    bench.run("export", checkpoint, "--format", "hf", "--out", export)
    folder = pathlib.Path(tempfile.mkdtemp())
    names = golden.write_tasks(folder, DATA)
    worst, requests = 0.0, 0
    for bos in (True, False):
        some = [name for name in names if (name in WITHOUT_BOS) != bos]
        theirs = by_harness(golden, folder, some, export, bos)
        out = bench.folder / f"lm_eval_{bos}"
        tasks = sorted({"mmlu" if name.startswith("mmlu_") else name for name in some})
        bench.run("eval", checkpoint, "--tasks", ",".join(tasks), "--task-data", DATA, "--out", out, "--precision", "fp32",
                  "--bos", "on" if bos else "off")
        ours = json.loads((out / "results.json").read_text())
        for name in some:
            samples = [json.loads(line) for line in (out / f"samples_{name}.jsonl").read_text().splitlines()]
            worst = max(worst, compare_samples(check, name, theirs["samples"][f"strand_{name}"], samples))
            compare_metrics(check, name, theirs["results"][f"strand_{name}"], ours["results"][name])
            requests += sum(len(sample["resps"]) for sample in samples)
    return f"{requests} requests of {len(names)} tasks, log-likelihoods within {worst:.1e}"
