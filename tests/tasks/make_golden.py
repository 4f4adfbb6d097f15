#!/usr/bin/env python3
"""What lm-evaluation-harness itself makes of the sample files in tests/tasks/data, for the table in test_tasks.cpp.

    python make_golden.py [DIRECTORY with the task files]

Needs a Python with lm_eval==0.4.13 (pip install). The scorer is that of pseudo_scorer.h: no model, no network.
"""
import hashlib
import json
import os
import pathlib
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
scratch = tempfile.mkdtemp()
os.environ["HF_HOME"] = scratch  # datasets remembers files by their contents there

import lm_eval.tasks  # noqa: E402
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.evaluator import simple_evaluate  # noqa: E402

HARNESS = pathlib.Path(lm_eval.tasks.__file__).parent
# name of strand's task: (the harness's file, split, file of the data)
TASKS = {
    "boolq": ("super_glue/boolq/default.yaml", "validation", "boolq"),
    "arc_easy": ("arc/arc_easy.yaml", "test", "arc_easy"),
    "arc_challenge": ("arc/arc_challenge.yaml", "test", "arc_challenge"),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", "validation", "truthfulqa"),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", "validation", "truthfulqa"),
    "piqa": ("piqa/piqa.yaml", "validation", "piqa"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "validation", "hellaswag"),
    "lambada": ("lambada/lambada_openai.yaml", "test", "lambada"),
    "wikitext": ("wikitext/wikitext.yaml", "test", "wikitext"),
    "winogrande": ("winogrande/default.yaml", "validation", "winogrande"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "test", "openbookqa"),
    "sciq": ("sciq/sciq.yaml", "test", "sciq"),
}


def write_task(folder, name, include, split, file, more=""):
    splits = {"training": None, "validation": None, "test": None, split: split}
    (folder / f"{name}.yaml").write_text(
        f"include: {include}\ntask: strand_{name}\ntag: null\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {{{split}: {file}}}}}\n"
        + "".join(f"{part}_split: {value or 'null'}\n" for part, value in splits.items()) + more)


def write_tasks(folder, data):
    """Task files for all tasks whose data are there; returns strand's names of them."""
    names = []
    for name, (include, split, file) in TASKS.items():
        if (data / f"{file}.jsonl").exists():
            write_task(folder, name, HARNESS / include, split, data / f"{file}.jsonl")
            names.append(name)
    if (data / "mmlu.jsonl").exists():
        subjects = {}
        for line in (data / "mmlu.jsonl").read_text().splitlines():
            subjects.setdefault(json.loads(line)["subject"], []).append(line)
        for subject in sorted(subjects):
            part = folder / f"mmlu_{subject}.jsonl"
            part.write_text("\n".join(subjects[subject]) + "\n")
            write_task(folder, f"mmlu_{subject}", HARNESS / f"mmlu/default/mmlu_{subject}.yaml", "test", part,
                       "fewshot_split: null\nfewshot_config: null\n")
            names.append(f"mmlu_{subject}")
    return names


class Pseudo(LM):
    def __init__(self):
        super().__init__()
        self.asked = []

    def ell(self, context, continuation):
        digest = hashlib.sha256(f"{context}\x1e{continuation}".encode()).digest()
        return -int.from_bytes(digest[:4], "big") / 2**26

    def loglikelihood(self, requests, disable_tqdm=False):
        self.asked += [r.args for r in requests]
        return [(self.ell(*r.args), False) for r in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        self.asked += [("", *r.args) for r in requests]
        return [self.ell("", *r.args) for r in requests]

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


def main():
    data = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "data").resolve()
    folder = pathlib.Path(tempfile.mkdtemp())
    for name in write_tasks(folder, data):
        model = Pseudo()
        manager = lm_eval.tasks.TaskManager(include_path=str(folder))
        result = simple_evaluate(model=model, tasks=[f"strand_{name}"], task_manager=manager, bootstrap_iters=0,
                                 verbosity="ERROR")
        text = "".join(f"{context}\x1e{continuation}\x1d" for context, continuation in model.asked)
        values = {k.split(",")[0]: v for k, v in result["results"][f"strand_{name}"].items()
                  if k.endswith(",none") and "_stderr" not in k}
        print(name, len(model.asked), hashlib.sha256(text.encode()).hexdigest()[:32],
              {k: float(v) for k, v in values.items()})


if __name__ == "__main__":
    main()
