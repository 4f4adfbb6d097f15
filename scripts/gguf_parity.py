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
    import sentencepiece
    import xllamacpp
except ImportError as missing:
    print(f"SKIPPED: {missing}; pip install -r scripts/requirements-hf.txt, to compare with llama.cpp")
    sys.exit(0)
import numpy as np
import yaml
from llama_interface import Llama
from parity_bench import ODD_LINES, ROOT, SEQUENCE, Bench, check, file_name, random_lines, run_program, token_ids
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
LATENT = {"model.attention": "mla", "model.kv_latent": 34, "model.nope_head_dim": 14, "model.rope_head_dim": 10,
          "model.value_head_dim": 18, "model.num_kv_heads": 4, "model.head_dim": 24, "model.norm_eps": 1.0e-6,
          "model.init_std": 0.1}
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
    "deepseek2, 27 layers": ("deepseek2", LATENT | SHARED | DENSE | {"model.num_layers": 27, "moe.routed_scale": 1.5}),
    "deepseek2, 26 layers, yarn, tied": (
        "deepseek2", LATENT | YARN | TIED | {"model.num_layers": 26, "model.yarn_mscale": 0.707,
                                             "model.yarn_mscale_all_dim": 0.707}),
    "deepseek2, latent of queries, yarn, sigmoid, bias": (
        "deepseek2", LATENT | YARN | SIGMOID | RENORMALIZED | BIAS | SHARED | {
            "model.q_latent": 26, "model.yarn_mscale": 1.0, "model.yarn_mscale_all_dim": 1.0}),
    "deepseek2, groups of experts": (
        "deepseek2", LATENT | SIGMOID | BIAS | SHARED | {
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


# ---- What a file should hold -----------------------------------------------------------------------------------------

def pairs(matrix, head):
    """The rows of each head, from halves (i, i + head / 2) to neighbours (2i, 2i + 1)."""
    return matrix.reshape(-1, 2, head // 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def turned_last(matrix, block, turning):
    """The last `turning` rows of every block of rows, from halves to neighbours."""
    blocks = matrix.reshape(-1, block, matrix.shape[1]).copy()
    for one in blocks:
        one[-turning:] = pairs(one[-turning:], turning)
    return blocks.reshape(matrix.shape)


def expected_latents(model, blk, ours, attn):
    """The tensors of latent attention."""
    still, turning, value = model["nope_head_dim"], model["rope_head_dim"], model["value_head_dim"]
    keys_values = ours[f"{attn}.kv_b_proj.weight"].reshape(model["num_heads"], still + value, model["kv_latent"])
    out = {f"{blk}.attn_kv_a_mqa.weight": turned_last(ours[f"{attn}.kv_a_proj.weight"], model["kv_latent"] + turning, turning),
           f"{blk}.attn_kv_a_norm.weight": ours[f"{attn}.kv_a_norm.weight"],
           f"{blk}.attn_k_b.weight": keys_values[:, :still].swapaxes(1, 2),
           f"{blk}.attn_v_b.weight": keys_values[:, still:],
           f"{blk}.attn_output.weight": ours[f"{attn}.o_proj.weight"]}
    queries = "q_b" if model["q_latent"] else "q"
    out[f"{blk}.attn_{queries}.weight"] = turned_last(ours[f"{attn}.{queries}_proj.weight"], still + turning, turning)
    if model["q_latent"]:
        out[f"{blk}.attn_q_a.weight"] = ours[f"{attn}.q_a_proj.weight"]
        out[f"{blk}.attn_q_a_norm.weight"] = ours[f"{attn}.q_a_norm.weight"]
    return out


def expected_tensors(architecture, config, ours):
    """Every tensor of the file in f32, from the tensors of the checkpoint."""
    model, moe = config["model"], config["moe"]
    hidden, head = model["hidden_size"], model["head_dim"]
    rotate = (lambda m: pairs(m, head)) if architecture in ("llama", "deepseek", "ernie4_5-moe") else lambda m: m
    out = {"token_embd.weight": ours["embed_tokens.weight"], "output_norm.weight": ours["norm.weight"]}
    if "lm_head.weight" in ours:
        out["output.weight"] = ours["lm_head.weight"]
    elif architecture in ("olmoe", "qwen2moe"):
        out["output.weight"] = ours["embed_tokens.weight"]

    def swiglu(theirs, suffix, block):
        for part in ("gate", "up", "down"):
            out[f"{theirs}.ffn_{part}{suffix}.weight"] = block(part)

    for n in range(model["num_layers"]):
        blk, layer = f"blk.{n}", f"layers.{n}"
        out[f"{blk}.attn_norm.weight"] = ours[f"{layer}.attn_norm.weight"]
        second = "post_attention_norm" if architecture == "glm4moe" else "ffn_norm"
        out[f"{blk}.{second}.weight"] = ours[f"{layer}.ffn_norm.weight"]
        if model["attention"] == "mla":
            out |= expected_latents(model, blk, ours, f"{layer}.attn")
        for theirs, name in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "o_proj")):
            if model["attention"] == "mla":
                break
            matrix = ours[f"{layer}.attn.{name}.weight"]
            out[f"{blk}.attn_{theirs}.weight"] = rotate(matrix) if theirs in "qk" else matrix
        for which in "qk":
            if f"{layer}.attn.{which}_norm.weight" in ours:
                out[f"{blk}.attn_{which}_norm.weight"] = ours[f"{layer}.attn.{which}_norm.weight"]
        if n < model["dense_layers"]:
            swiglu(blk, "", lambda part: ours[f"{layer}.mlp.{part}_proj.weight"])
            continue
        out[f"{blk}.ffn_gate_inp.weight"] = ours[f"{layer}.moe.router.weight"]
        swiglu(blk, "_exps", lambda part: np.stack(
            [ours[f"{layer}.moe.experts.{e}.{part}_proj.weight"] for e in range(moe["num_experts"])]))
        if moe["shared_experts"]:
            swiglu(blk, "_shexp", lambda part: ours[f"{layer}.moe.shared.{part}_proj.weight"])
        elif architecture in ("glm4moe", "deepseek2", "qwen2moe"):  # one that adds nothing
            width = 32 if architecture == "qwen2moe" else moe["expert_ffn"]
            swiglu(blk, "_shexp", lambda part: np.zeros((hidden, width) if part == "down" else (width, hidden)))
        if architecture == "qwen2moe":
            out[f"{blk}.ffn_gate_inp_shexp.weight"] = np.ones(hidden)
        if moe["bias_rate"] > 0:
            out[f"{blk}.exp_probs_b.bias"] = ours[f"{layer}.moe.router.bias"]
        elif architecture == "glm4moe":
            out[f"{blk}.exp_probs_b.bias"] = np.zeros(moe["num_experts"])
    return {name: np.asarray(value, np.float32) for name, value in out.items()}


def expected_fields(architecture, name, config, file_type, tokenizer):
    """Every key of the file with its value."""
    model, moe = config["model"], config["moe"]
    sized = {
        "vocab_size": model["vocab_size"], "context_length": SEQUENCE, "embedding_length": model["hidden_size"],
        "block_count": model["num_layers"], "attention.head_count": model["num_heads"],
        "attention.head_count_kv": model["num_kv_heads"], "attention.key_length": model["head_dim"],
        "attention.value_length": model["head_dim"], "attention.layer_norm_rms_epsilon": np.float32(model["norm_eps"]),
        "rope.dimension_count": round(model["rope_fraction"] * model["head_dim"]),
        "rope.freq_base": np.float32(model["rope_theta"]), "expert_count": moe["num_experts"],
        "expert_used_count": moe["top_k"],
        "feed_forward_length": moe["expert_ffn"] if architecture in ("llama", "olmoe") else
        model["dense_ffn"] if model["dense_layers"] else moe["top_k"] * moe["expert_ffn"],
    }
    if architecture not in ("llama", "olmoe"):
        sized["expert_feed_forward_length"] = moe["expert_ffn"]
    if architecture == "qwen2moe":
        sized["expert_shared_feed_forward_length"] = 32
    if architecture == "deepseek":
        sized |= {"expert_shared_count": moe["shared_experts"], "leading_dense_block_count": model["dense_layers"],
                  "expert_weights_scale": 1.0}
    if architecture == "ernie4_5-moe":
        sized |= {"expert_shared_feed_forward_length": moe["shared_experts"] * moe["expert_ffn"],
                  "expert_shared_count": moe["shared_experts"], "interleave_moe_layer_step": 1,
                  "leading_dense_block_count": model["dense_layers"]}
    if model["attention"] == "mla":
        latent, turning = model["kv_latent"], model["rope_head_dim"]
        sized |= {"attention.head_count_kv": 1, "attention.key_length": latent + turning,
                  "attention.value_length": latent, "attention.kv_lora_rank": latent,
                  "attention.key_length_mla": model["nope_head_dim"] + turning,
                  "attention.value_length_mla": model["value_head_dim"], "rope.dimension_count": turning}
        if model["q_latent"]:
            sized["attention.q_lora_rank"] = model["q_latent"]
        if model["rope_scaling"] == "yarn":
            sized["rope.scaling.yarn_log_multiplier"] = np.float32(0.1 * model["yarn_mscale_all_dim"])
    if model["rope_scaling"] == "yarn":
        sized |= {"rope.scaling.type": "yarn", "rope.scaling.factor": model["yarn_factor"],
                  "rope.scaling.original_context_length": model["yarn_original_length"]}
    if architecture in ("glm4moe", "deepseek2"):
        sized |= {"expert_shared_count": moe["shared_experts"] or 1, "leading_dense_block_count": model["dense_layers"],
                  "expert_gating_func": {"softmax": 1, "sigmoid": 2}[moe["score"]],
                  "expert_weights_scale": np.float32(moe["routed_scale"]), "expert_weights_norm": moe["renormalize"]}
        if moe["groups"] > 1:
            sized |= {"expert_group_count": moe["groups"], "expert_group_used_count": moe["groups_kept"]}
    fields = {f"{architecture}.{key}": value for key, value in sized.items()}
    fields |= {"general.architecture": architecture, "general.type": "model", "general.name": name,
               "general.file_type": file_type, "general.quantization_version": 2}
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    ids = range(pieces.vocab_size())
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    extra = range(pieces.vocab_size(), model["vocab_size"])
    fields |= {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [pieces.id_to_piece(i) for i in ids] + [f"[PAD{i}]" for i in extra],
        "tokenizer.ggml.scores": [pieces.get_score(i) for i in ids] + [0.0 for _ in extra],
        "tokenizer.ggml.token_type": kinds + [5 for _ in extra],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True}
    return fields


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


def serve_case(bench):
    """The README's two lines as printed: the server continues a text as `strand generate` does."""
    export, serve = readme_lines()
    place = bench.folder / "serve"
    (place / "build").mkdir(parents=True)
    (place / "build/strand").symlink_to(bench.strand)
    (place / "bin").mkdir()
    (place / "bin/python3").symlink_to(sys.executable)
    run = bench.train("quickstart", RENORMALIZED | {"train.steps": 40})
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
            ask = {"prompt": "#include", "max_tokens": 12, "temperature": 0}
            request = urllib.request.Request(f"{address}/v1/completions", json.dumps(ask).encode(),
                                             {"Content-Type": "application/json"})
            theirs = json.loads(urllib.request.urlopen(request, timeout=60).read())["choices"][0]["text"]
        finally:
            server.stdin.write("\n")
            server.stdin.close()
            server.wait(60)
    ours = bench.run("generate", place / "runs/quickstart", "--prompt", ask["prompt"], "--max-tokens", 12,
                     "--temperature", 0, "--precision", "fp32").removeprefix(ask["prompt"]).rstrip("\n")
    check(ours.strip(), f"the model writes {ours!r} only")
    check(theirs.rstrip("\n") == ours, f"{address}: {theirs!r}, strand generate: {ours!r}")
    return f"{theirs!r}"


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
