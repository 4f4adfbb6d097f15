#!/usr/bin/env python3
"""strand's exports in transformers, and transformers' models in strand: the same logits, ids and bytes.

    python scripts/hf_parity.py [--strand build/strand] [--tokenizer FILE.model ...] [CASE ...]

Every case makes its own tiny model. A case name given selects the cases whose names contain it. Exit status 1 when
anything differs. Needs scripts/requirements-hf.txt; scripts/hf_parity.sh makes the environment and runs this.
hf_compare.py has the tolerances.
"""
import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import chat_parity
import hf_defaults
import hf_exports
import hf_imports
import hf_training
import lm_eval_parity
import torch
import transformers
from hf_compare import TorchBench, load
from parity_bench import ODD_LINES, ROOT, check, random_lines, run_program, token_ids
from transformers import AutoTokenizer


def defaults_case():
    """The table of defaults that the C++ tests read is what this transformers says."""
    kept = json.loads((ROOT / "tests/export/transformers_defaults.json").read_text())
    now = hf_defaults.table()
    for name in now:
        if name != "transformers":  # the version
            check(kept[name] == now[name], f"{name}: {kept[name]} in the table, {now[name]} in transformers")
    return f"{len(now) - 1} classes"


def tokenizer_case(bench, model):
    short = "tokenizer_" + pathlib.Path(model).stem
    data = bench.tokenize(model, f"{short}_data")
    run = bench.train(short, {"model.hidden_size": 16, "model.num_heads": 2, "model.num_layers": 1,
                              "moe.expert_ffn": 16}, model, data)
    out = bench.folder / f"{short}_hf"
    bench.run("export", run, "--out", out, "--shard-size", 1)
    check((out / "tokenizer.model").read_bytes() == pathlib.Path(model).read_bytes(), "tokenizer.model is not verbatim")
    tokenizer = AutoTokenizer.from_pretrained(out)
    ours = token_ids(bench, model, ODD_LINES)
    check(len(ours) == len(ODD_LINES) >= 100, f"{len(ours)} documents of {len(ODD_LINES)} lines")
    for line, ids in zip(ODD_LINES, ours):
        theirs = tokenizer(line)["input_ids"]
        check(ids == theirs, f"{line!r}: strand {ids}, exported tokenizer {theirs}")
        text = tokenizer.decode(theirs, skip_special_tokens=True)
        plain = line.replace("\u2581", " ")
        check(text == plain, f"{line!r} decodes to {text!r}")
    lines = random_lines(20000)
    ours = token_ids(bench, model, lines)
    theirs = tokenizer(lines)["input_ids"]
    check(len(ours) == len(lines), f"{len(ours)} documents of {len(lines)} random lines")
    for line, ids, other in zip(lines, ours, theirs):
        check(ids == other, f"{line!r}: strand {ids}, exported tokenizer {other}")
    check((tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2), "ids of <s> and </s>")
    pieces = len(list(out.glob("*.safetensors")))
    load(out)
    return f"{len(ODD_LINES)} odd and {len(lines)} random lines, {tokenizer.vocab_size} pieces, weights in {pieces} file{'s' * (pieces > 1)}"


def cases(bench, tokenizers):
    yield from hf_exports.cases(bench)
    yield from hf_imports.cases(bench)
    yield from hf_training.cases(bench)
    yield "defaults of absent keys", defaults_case
    yield "lm_eval on an export", lambda: lm_eval_parity.run(bench, check)
    yield from chat_parity.cases(bench)
    for model in [bench.model, *tokenizers]:
        yield f"tokenizer {pathlib.Path(model).name}", lambda model=model: tokenizer_case(bench, model)


if __name__ == "__main__":
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    run_program(__doc__, TorchBench, cases)
