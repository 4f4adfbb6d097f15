"""Comparisons of strand with transformers that all cases of hf_parity.py share: logits, greedy texts, tensors of files.

Tolerance: logits of 1 to 10 in fp32, sums of about a hundred products in another order: differences of some 1e-6.
Wrong mathematics (a missing renormalization, a rotation of the wrong half) gives 1e-2 and more.
"""
import pathlib

import torch
from parity_bench import Bench, check
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4
PROMPTS = ["// Errors carry", "The quick brown fox", "  1234 été"]


class TorchBench(Bench):
    """The same with logits as tensors of torch."""

    def logits(self, checkpoint, data, *more):
        tokens, logits = super().logits(checkpoint, data, *more)
        return torch.from_numpy(tokens).long(), torch.from_numpy(logits)


def load(directory):
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, trust_remote_code=False, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check(not info[kind], f"{kind}: {info[kind]}")
    return model.eval()


def compare_logits(model, tokens, ours):
    with torch.no_grad():
        theirs = model(tokens).logits
    check(ours.shape == theirs.shape, f"logits {list(ours.shape)} and {list(theirs.shape)}")
    check(ours.std() > 0.1, f"logits too even to tell anything: standard deviation {ours.std():.3g}")
    worst = (ours - theirs).abs().max().item()
    check(worst <= TOLERANCE, f"logits differ by {worst:.3g}")
    return worst


def compare_greedy(bench, checkpoint, directory, model):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    without_piece = list(range(len(tokenizer), model.config.vocab_size)) or None
    for prompt in PROMPTS:
        ours = bench.run("generate", checkpoint, "--prompt", prompt, "--temperature", 0, "--max-tokens", 32,
                         "--precision", "fp32", "--print-ids")
        ours = [int(x) for x in ours.split()]
        ids = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            theirs = model.generate(ids["input_ids"], attention_mask=ids["attention_mask"], do_sample=False,
                                    max_new_tokens=32, suppress_tokens=without_piece)
        theirs = theirs[0, ids["input_ids"].shape[1]:].tolist()
        if theirs and theirs[-1] == tokenizer.eos_token_id:
            theirs.pop()
        check(ours == theirs, f"greedy continuation of {prompt!r}: {ours} and {theirs}")


def tensors_of(directory):
    """Every tensor of a directory as (dtype, shape, bytes)."""
    found = {}
    for file in sorted(pathlib.Path(directory).glob("*.safetensors")):
        with safe_open(file, framework="pt") as f:
            for name in f.keys():
                t = f.get_tensor(name)
                found[name] = (t.dtype, tuple(t.shape), t.contiguous().view(torch.uint8).numpy().tobytes())
    return found


def same_tensors(a, b, what):
    check(a.keys() == b.keys(), f"{what}: other names: {sorted(a.keys() ^ b.keys())[:6]}")
    for name in a:
        check(a[name] == b[name], f"{what}: {name} differs")
