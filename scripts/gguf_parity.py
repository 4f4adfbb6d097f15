#!/usr/bin/env python3
"""strand's GGUF files in the Python package gguf and in llama.cpp itself: the same fields, tensors, logits and ids.

    python scripts/gguf_parity.py [--strand build/strand] [--tokenizer FILE.model ...] [CASE ...]

Every case makes its own tiny model. A case name given selects the cases whose names contain it. Exit status 1 when
anything differs. Needs scripts/requirements-hf.txt; scripts/hf_parity.sh --install-only makes the environment.

Tolerance: logits in fp32 on both sides, which differ by the order of sums and by llama.cpp's approximations of exp:
some 1e-6 of the largest logit. Wrong mathematics (a missing renormalization, a rotation of the wrong half) gives 1e-2 and
more.
"""
import json
import math
import os
import pathlib
import select
import subprocess
import sys
import urllib.request

try:
    import gguf
    import xllamacpp
    from gguf_expected import expected_fields, expected_tensors
except ImportError as missing:
    print(f"SKIPPED: {missing}; pip install -r scripts/requirements-hf.txt, to compare with llama.cpp")
    sys.exit(0)
import numpy as np
import yaml
from llama_interface import Llama
from parity_bench import (LATENT, ODD_LINES, ROOT, SEQUENCE, Bench, check, file_name, random_lines, run_program,
                          token_ids)
from safetensors.numpy import load_file

TOLERANCE = 2e-5  # of the largest logit

# name: (architecture, options that differ from BASE)
SHARED = {"moe.shared_experts": 2}
DENSE = {"model.dense_layers": 1, "model.dense_ffn": 80}
BIAS = {"moe.bias_rate": 0.05}
RENORMALIZED = {"moe.renormalize": True}
TIED = {"model.tied_embeddings": True}
HEAD_NORM = {"model.qk_norm": "head"}
SIGMOID = {"moe.score": "sigmoid"}
YARN = {"model.rope_scaling": "yarn", "model.yarn_factor": 3.0, "model.yarn_original_length": 48}
LATENT_FOR_LLAMA = LATENT | {"model.norm_eps": 1.0e-6, "model.init_std": 0.1}
EXPORTS = {
    "llama": ("llama", RENORMALIZED),
    "llama, tied": ("llama", RENORMALIZED | TIED),
    "llama, padded vocabulary": ("llama", RENORMALIZED | {"model.vocab_size": 560}),
    "llama, one expert": ("llama", RENORMALIZED | {"moe.num_experts": 1, "moe.top_k": 1}),
    "qwen3moe": ("qwen3moe", RENORMALIZED | HEAD_NORM | {"model.head_dim": 32, "model.num_kv_heads": 1}),
    "qwen3moe, tied": ("qwen3moe", RENORMALIZED | HEAD_NORM | TIED),
    "olmoe": ("olmoe", {"model.qk_norm": "full", "model.head_dim": 18, "model.num_kv_heads": 4}),
    "olmoe, tied": ("olmoe", {"model.qk_norm": "full", "model.head_dim": 18, "model.num_kv_heads": 4} | TIED),
    "qwen2moe": ("qwen2moe", {"model.head_dim": 18}),
    "qwen2moe, tied": ("qwen2moe", {"model.head_dim": 18} | TIED),
    "deepseek": ("deepseek", SHARED | DENSE | {"model.head_dim": 18}),
    "deepseek, every head its own keys, tied": (
        "deepseek", {"moe.shared_experts": 1, "model.head_dim": 18, "model.num_kv_heads": 4} | TIED),
    "glm4moe, softmax, not renormalized, shared expert": ("glm4moe", SHARED),
    "deepseek2, 27 layers": ("deepseek2", LATENT_FOR_LLAMA | SHARED | DENSE | {"model.num_layers": 27, "moe.routed_scale": 1.5}),
    "deepseek2, 26 layers, yarn, tied": (
        "deepseek2", LATENT_FOR_LLAMA | YARN | TIED | {"model.num_layers": 26, "model.yarn_mscale": 0.707,
                                             "model.yarn_mscale_all_dim": 0.707}),
    "deepseek2, latent of queries, yarn, sigmoid, bias": (
        "deepseek2", LATENT_FOR_LLAMA | YARN | SIGMOID | RENORMALIZED | BIAS | SHARED | {
            "model.q_latent": 26, "model.yarn_mscale": 1.0, "model.yarn_mscale_all_dim": 1.0}),
    "deepseek2, groups of experts": (
        "deepseek2", LATENT_FOR_LLAMA | SIGMOID | BIAS | SHARED | {
            "model.q_latent": 26, "moe.num_experts": 12, "moe.groups": 4, "moe.groups_kept": 2}),
    "qwen3moe, yarn": ("qwen3moe", RENORMALIZED | HEAD_NORM | YARN),
    "glm4moe, yarn, part of a head rotated": ("glm4moe", SIGMOID | YARN | {"model.rope_fraction": 0.5}),
    "llama, yarn": ("llama", RENORMALIZED | YARN),
    "ernie": ("ernie4_5-moe", RENORMALIZED | SHARED | BIAS),
    "ernie, no bias, dense layer": ("ernie4_5-moe", RENORMALIZED | SHARED | DENSE),
    "ernie, no shared expert, tied": ("ernie4_5-moe", RENORMALIZED | BIAS | TIED),
    "glm4moe, all options": (
        "glm4moe", SIGMOID | RENORMALIZED | SHARED | BIAS | DENSE | HEAD_NORM |
        {"moe.routed_scale": 2.5, "model.rope_fraction": 0.3}),
    "glm4moe, sigmoid, not renormalized, no bias, no shared expert, tied": ("glm4moe", SIGMOID | TIED),
    "glm4moe, softmax, not renormalized, shared expert, bias": ("glm4moe", SHARED | BIAS),
    "glm4moe, softmax, not renormalized, heads wider than the model": ("glm4moe", {}),
    "glm4moe, softmax, renormalized, scaled": ("glm4moe", RENORMALIZED | {"moe.routed_scale": 1.5}),
    "glm4moe, softmax, renormalized, part of a head rotated": ("glm4moe", RENORMALIZED | {"model.rope_fraction": 0.5}),
    "glm4moe, groups of experts": (
        "glm4moe", SIGMOID | RENORMALIZED | BIAS | {"moe.num_experts": 12, "moe.groups": 4, "moe.groups_kept": 2}),
    "glm4moe, softmax, groups of experts": (
        "glm4moe", {"moe.num_experts": 12, "moe.groups": 4, "moe.groups_kept": 2}),
    "glm4moe, softmax, not renormalized, norms of heads": ("glm4moe", HEAD_NORM),
    "glm4moe, softmax, norms of heads, dense layers": (
        "glm4moe", HEAD_NORM | RENORMALIZED | {"model.dense_layers": 2, "model.dense_ffn": 80}),
    "glm4moe, softmax, norms of heads, every head its own keys, bias": (
        "glm4moe", HEAD_NORM | BIAS | {"model.num_kv_heads": 4}),
}


def compare_fields(reader, expected):
    found = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    check(found.keys() == expected.keys(), f"other keys: {sorted(found.keys() ^ expected.keys())}")
    for key, value in expected.items():
        check(found[key] == value, f"{key} is {str(found[key])[:200]}, not {str(value)[:200]}")


def encoded_as(name, value, wanted):
    """The type of a tensor of the file, by the rules of the documentation."""
    kinds = gguf.GGMLQuantizationType
    if value.ndim == 1 or name.endswith("ffn_gate_inp.weight"):
        return kinds.F32
    return kinds.F16 if wanted == kinds.Q8_0 and value.shape[-1] % 32 else wanted


def compare_tensors(reader, expected, wanted):
    found = {tensor.name: tensor for tensor in reader.tensors}
    check(found.keys() == expected.keys(), f"other tensors: {sorted(found.keys() ^ expected.keys())}")
    for name, value in expected.items():
        tensor = found[name]
        kind = encoded_as(name, value, wanted)
        check(tensor.tensor_type == kind, f"{name} is {tensor.tensor_type!r}, not {kind!r}")
        check(list(tensor.shape) == list(value.shape)[::-1], f"{name} is {list(tensor.shape)}, should be {value.shape}")
        theirs = gguf.quants.quantize(value, kind)
        check(tensor.data.tobytes() == theirs.tobytes(), f"{name} holds other bytes than gguf makes of it")


# ---- Cases -----------------------------------------------------------------------------------------------------------

TYPES = {"f32": (0, gguf.GGMLQuantizationType.F32), "f16": (1, gguf.GGMLQuantizationType.F16),
         "bf16": (32, gguf.GGMLQuantizationType.BF16), "q8_0": (7, gguf.GGMLQuantizationType.Q8_0)}


def checkpoint_of(run):
    """The configuration and the tensors of a run's checkpoint."""
    checkpoint = max((run / "checkpoints").iterdir())
    return yaml.safe_load((checkpoint / "config.yaml").read_text()), load_file(checkpoint / "model.safetensors")


def compare_file(bench, run, short, architecture, kind, *more):
    """Exports a run as `kind`, and holds every key and byte against gguf's."""
    path = bench.folder / f"{short}_{kind}.gguf"
    said = bench.run("export", run, "--format", "gguf", "--type", kind, "--out", path, *more)
    check(architecture in said, f"export says {said!r}")
    config, ours = checkpoint_of(run)
    reader = gguf.GGUFReader(path)
    number, wanted = TYPES[kind]
    compare_fields(reader, expected_fields(architecture, run.name, config, number, bench.model))
    compare_tensors(reader, expected_tensors(architecture, config, ours), wanted)
    return path


def compare_logits(path, tokens, ours):
    worst = 0
    check(ours.std() > 0.1, f"logits too even to tell anything: standard deviation {ours.std():.3g}")
    with Llama(path) as llama:
        for sequence, logits in zip(tokens, ours):
            theirs = llama.logits([int(t) for t in sequence])
            check(theirs.shape == logits.shape, f"logits {theirs.shape} and {logits.shape}")
            worst = max(worst, float(np.abs(theirs - logits).max() / np.abs(logits).max()))
    check(worst <= TOLERANCE, f"logits differ by {worst:.3g} of the largest")  # and not at all by a NaN
    check(not math.isnan(worst), "llama.cpp's logits are no numbers")
    return worst


def export_case(bench, name, architecture, options):
    short = file_name(name)
    run = bench.train(short, options)
    path = compare_file(bench, run, short, architecture, "f32")
    tokens, ours = bench.logits(run, bench.data)
    worst = compare_logits(path, tokens, ours)
    return f"{architecture}, logits within {worst:.1e} of the largest"


def types_case(bench, name, options, architecture):
    """All four types: the bytes of gguf's own conversion, and a file that llama.cpp loads and computes with."""
    short = file_name(name)
    run = bench.train(short, options)
    tokens, ours = bench.logits(run, bench.data)
    sizes = []
    for kind in TYPES:
        path = compare_file(bench, run, short, architecture, kind)
        sizes.append(f"{kind} {path.stat().st_size}")
        with Llama(path) as llama:
            theirs = llama.logits([int(t) for t in tokens[0]])
        # Rounded weights change some near ties of the router and with them single logits, so the median counts.
        off = float(np.median(np.abs(theirs - ours[0])) / np.abs(ours[0]).max())
        check(off <= 0.05, f"{kind}: half of the logits differ by more than {off:.3g} of the largest")
    return "bytes: " + ", ".join(sizes)


def pieces_case(bench):
    """Stacked experts of 1.3 million elements: they pass through memory in more than one piece."""
    run = bench.train("pieces", RENORMALIZED | {
        "model.hidden_size": 64, "model.num_layers": 1, "model.head_dim": 16, "moe.num_experts": 128,
        "moe.expert_ffn": 160})
    for kind in ("f32", "q8_0"):
        path = compare_file(bench, run, "pieces", "llama", kind)
    return f"q8_0 {path.stat().st_size} bytes"


def comparison_can_fail(bench):
    """The tolerance sees a wrong file: the routing weights of another model, and rows that are not reordered."""
    run = bench.train("can_fail", RENORMALIZED)
    path = bench.folder / "can_fail.gguf"
    bench.run("export", run, "--format", "gguf", "--out", path)
    tokens, ours = bench.logits(run, bench.data)
    reader = gguf.GGUFReader(path, "r+")
    for tensor in reader.tensors:
        if tensor.name == "blk.1.attn_k.weight":
            tensor.data[[0, 1]] = tensor.data[[1, 0]]
    reader.data.flush()
    with Llama(path) as llama:
        off = np.abs(llama.logits([int(t) for t in tokens[0]]) - ours[0]).max() / np.abs(ours[0]).max()
    check(off > 100 * TOLERANCE, f"two rows of a matrix exchanged change logits by {off:.3g} only")
    return f"two rows exchanged: {off:.1e}"


def without_tokenizer_case(bench):
    """A checkpoint without a tokenizer: a file without a vocabulary, with the same logits."""
    tokens_path = bench.random_ids("no_tokenizer", 4 * SEQUENCE + 8)
    options = RENORMALIZED | {"model.vocab_size": 311, "data.train": [{"path": str(tokens_path), "format": "raw_u16"}],
                              "data.tokenizer": ""}
    run = bench.train("no_tokenizer", options)
    path = bench.folder / "no_tokenizer.gguf"
    bench.run("export", run, "--format", "gguf", "--out", path)
    fields = gguf.GGUFReader(path).fields
    names = [key for key in fields if key.startswith("tokenizer")]
    check(names == ["tokenizer.ggml.model"] and fields[names[0]].contents() == "none", f"keys {names}")
    worst = compare_logits(path, *bench.logits(run, tokens_path, "--format", "raw_u16"))
    return f"logits within {worst:.1e} of the largest"


def chat_template_case(bench):
    """A named template stands in the file as the program that chat_parity.py compares with transformers."""
    run = bench.train(file_name("chat template"), RENORMALIZED)
    path = bench.folder / "chat_template.gguf"
    bench.run("export", run, "--format", "gguf", "--template", "llama2", "--out", path)
    program = gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()
    check(program == (ROOT / "tests/chat/exported/llama2.jinja").read_text(), f"another program: {program}")
    return "llama2"


def readme_lines():
    """The lines of the README that export a run and serve it."""
    blocks = (ROOT / "README.md").read_text().split("```console\n")[1:]
    lines = [block.split("\n```")[0].splitlines() for block in blocks if "xllamacpp" in block.split("\n```")[0]]
    check(len(lines) == 1 and len(lines[0]) == 2, f"the README has {lines}, not one block of two lines")
    return lines[0]


SERVED_PROMPTS = ("The ", "The garden", "#include", "for (int i = 0; ", "  return")
SERVED_TOKENS = 12
SERVED_STEPS = 120  # after which the model writes words: "near the", "; ++i"


def served_text(address, prompt):
    """What a server with OpenAI's interface writes after `prompt`, taking the most likely token each time."""
    ask = {"prompt": prompt, "max_tokens": SERVED_TOKENS, "temperature": 0}
    request = urllib.request.Request(f"{address}/v1/completions", json.dumps(ask).encode(),
                                     {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=60).read())["choices"][0]["text"]


def serve_case(bench):
    """The README's two lines as printed: the server continues a text as `strand generate` does."""
    export, serve = readme_lines()
    place = bench.folder / "serve"
    (place / "build").mkdir(parents=True)
    (place / "build/strand").symlink_to(bench.strand)
    (place / "bin").mkdir()
    (place / "bin/python3").symlink_to(sys.executable)
    run = bench.train("quickstart", RENORMALIZED | {"train.steps": SERVED_STEPS})
    (place / "runs").mkdir()
    run.rename(place / "runs/quickstart")
    environment = os.environ | {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    # A link to the program of a virtual environment is not a part of it.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run(["bash", "-c", export], cwd=place, env=environment, check=True, capture_output=True)
    with open(bench.folder / "serve.log", "w") as log:
        server = subprocess.Popen(["bash", "-c", serve], cwd=place, env=environment, text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=log)
        try:
            address = ""
            while not address.startswith("http") and select.select([server.stdout], [], [], 120)[0]:
                address = os.read(server.stdout.fileno(), 4096).decode().strip()
                check(address, f"the server ends: {(bench.folder / 'serve.log').read_text()[-2000:]}")
            check(address.startswith("http"), "the server prints no address")
            theirs = {prompt: served_text(address, prompt) for prompt in SERVED_PROMPTS}
        finally:
            server.stdin.write("\n")
            server.stdin.close()
            server.wait(60)
    for prompt, text in theirs.items():
        ours = bench.run("generate", place / "runs/quickstart", "--prompt", prompt, "--max-tokens", SERVED_TOKENS,
                         "--temperature", 0, "--precision", "fp32").removeprefix(prompt).rstrip("\n")
        check(text.rstrip("\n") == ours, f"{address} after {prompt!r}: {text!r}, strand generate: {ours!r}")
    check(all(text.strip() for text in theirs.values()), f"the model writes blanks: {theirs}")
    return f"{theirs}"


def tokenizer_case(bench, model):
    """llama.cpp gives the ids of the tokenizer, and the text back."""
    short = "gguf_" + file_name(pathlib.Path(model).name)
    byte_level = str(model).endswith(".json")  # gives back every text as it was
    data = bench.tokenize(model, f"{short}_data")
    run = bench.train(short, RENORMALIZED | {"model.hidden_size": 16, "model.num_heads": 2, "model.num_layers": 1,
                                             "moe.expert_ffn": 16}, model, data)
    path = bench.folder / f"{short}.gguf"
    bench.run("export", run, "--format", "gguf", "--out", path)
    lines = ODD_LINES + random_lines(5000) + [text.read_text() for text in sorted(bench.texts.iterdir())[:20]]
    ours = token_ids(bench, model, lines)
    check(len(ours) == len(lines), f"{len(ours)} documents of {len(lines)} lines")
    with Llama(path) as llama:
        for line, ids in zip(lines, ours):
            theirs = llama.ids(line)
            check(ids == theirs, f"{line[:200]!r}: strand {ids[:100]}, llama.cpp {theirs[:100]}")
            if "\x00" not in line:  # the end of a string in C
                text = llama.text(ids[1:])  # without BOS
                same = text == line if byte_level else text.lstrip(" ") == line.replace("\u2581", " ").lstrip(" ")
                check(same, f"{line!r} becomes {text!r}")
    return f"{len(lines)} texts"


def cases(bench, tokenizers):
    for name, (architecture, options) in EXPORTS.items():
        yield name, lambda name=name, a=architecture, o=options: export_case(bench, name, a, o)
    yield "types", lambda: types_case(
        bench, "types", RENORMALIZED | SHARED | BIAS | {"model.hidden_size": 64, "model.head_dim": 16, "moe.expert_ffn": 96},
        "ernie4_5-moe")
    yield "types, rows of other lengths", lambda: types_case(bench, "types rows", SIGMOID | HEAD_NORM, "glm4moe")
    yield "pieces of large tensors", lambda: pieces_case(bench)
    yield "serve", lambda: serve_case(bench)
    yield "chat template", lambda: chat_template_case(bench)
    yield "no tokenizer", lambda: without_tokenizer_case(bench)
    yield "the comparison can fail", lambda: comparison_can_fail(bench)
    byte_level = bench.folder / "bytes" / "tokenizer.json"
    bench.run("train-tokenizer", bench.texts, "--type", "bpe-bytes", "--out", byte_level, "--vocab-size", 512)
    for model in [bench.model, byte_level, *tokenizers]:
        yield f"tokenizer {pathlib.Path(model).name}", lambda model=model: tokenizer_case(bench, model)


if __name__ == "__main__":
    print(f"xllamacpp {xllamacpp.__version__}", flush=True)
    run_program(__doc__, Bench, cases)
