"""Models of transformers in strand: the same logits, and the same tensors when they leave again. Cases of hf_parity.py."""
import json

import torch
from hf_compare import TOLERANCE, compare_logits, load, same_tensors, tensors_of
from hf_models import BACKBONES, IMPORTS, backbone_model, randomize, rope, yarn
from parity_bench import SEQUENCE, Failure, check, file_name
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

# Tensors of published checkpoints that the class itself leaves out.
EXTRAS = {
    "Ernie4_5_MoeForCausalLM": ["model.mtp_block.0.input_layernorm.weight", "model.mtp_emb_norm.0.weight",
                                "model.mtp_hidden_norm.0.weight", "model.mtp_linear_proj.0.weight"],
    "Glm4MoeForCausalLM": ["model.layers.3.eh_proj.weight", "model.layers.3.enorm.weight",
                           "model.layers.3.embed_tokens.weight", "model.layers.3.self_attn.q_proj.weight"],
}


def with_extras(bench, short, folder, cls, ours, data):
    """The same model with tensors that transformers leaves out, and strand too: the same logits."""
    out = bench.folder / f"{short}_extras_hf"
    out.mkdir()
    tensors = load_file(folder / "model.safetensors")
    tensors.update({name: torch.ones(3, 5) for name in EXTRAS[cls]})
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text((folder / "config.json").read_text())
    checkpoint = bench.folder / f"{short}_extras"
    bench.run("import", out, "--out", checkpoint)
    _, again = bench.logits(checkpoint, data, "--format", "raw_u16")
    check(torch.equal(ours, again), "other logits with the tensors that are left out")


def import_case(bench, name, make):
    short = file_name(name)
    model = make()
    randomize(model)
    folder = bench.folder / f"{short}_hf"
    model.save_pretrained(folder)
    data = bench.random_ids(short, 2 * SEQUENCE + 8)
    checkpoint = bench.folder / short / "checkpoints" / "step_00000000"
    bench.run("import", folder, "--out", checkpoint)
    tokens, ours = bench.logits(checkpoint, data, "--format", "raw_u16")
    worst = compare_logits(model, tokens, ours)
    if type(model).__name__ in EXTRAS:
        with_extras(bench, short, folder, type(model).__name__, ours, data)
    bench.run("export", checkpoint, "--out", bench.folder / f"{short}_again")
    again = tensors_of(bench.folder / f"{short}_again")
    same_tensors({k: v for k, v in tensors_of(folder).items()}, again, "save_pretrained, import, export")
    return f"logits within {worst:.1e}"


def backbone_case(bench, name):
    """Import of a class that transformers does not have, against the class of it that computes the same."""
    short = file_name(name)
    _, renamed, written = BACKBONES[name]
    model = backbone_model(name)
    same, folder = bench.folder / f"{short}_same", bench.folder / f"{short}_hf"
    model.save_pretrained(same)
    renamed(same, folder)
    data = bench.random_ids(short, 2 * SEQUENCE + 8)
    checkpoint = bench.folder / short / "checkpoints" / "step_00000000"
    bench.run("import", folder, "--out", checkpoint)
    tokens, ours = bench.logits(checkpoint, data, "--format", "raw_u16")
    worst = compare_logits(model, tokens, ours)
    out = bench.folder / f"{short}_out"
    bench.run("export", checkpoint, "--out", out)
    config = json.loads((out / "config.json").read_text())
    check(config["architectures"] == [written], f"exported as {config['architectures']}")
    if written in json.loads((folder / "config.json").read_text())["architectures"]:
        same_tensors(tensors_of(folder), tensors_of(out), "import, export")
        out = bench.folder / f"{short}_native"
        bench.run("export", checkpoint, "--out", out, "--class", type(model).__name__)
    same_tensors(tensors_of(same), tensors_of(out), "as the class of transformers")
    again = load(out)
    with torch.no_grad():
        check(torch.equal(again(tokens).logits, model(tokens).logits), "transformers computes something else of the export")
    return f"logits within {worst:.1e}; exported as {written}"


# What a config.json may say of RoPE besides the class's default, and where.
ROPES = [
    {}, {"rope_theta": 300.0}, {"rope_parameters": rope(400.0)}, {"rope_theta": 300.0, "rope_parameters": rope(400.0)},
    {"rope_theta": 300.0, "rope_parameters": {"rope_type": "default"}}, {"rope_scaling": rope(500.0)},
    {"rope_theta": 300.0, "rope_parameters": rope(400.0), "rope_scaling": rope(500.0)},
    {"rope_theta": 300.0, "rope_parameters": rope(400.0), "rope_scaling": {"rope_type": "default"}},
    {"rope_theta": 300.0, "rope_parameters": rope(400.0), "rope_scaling": None},
    {"rope_theta": 300.0, "rope_parameters": None},
    {"rope_theta": 300.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}},
    {"rope_parameters": yarn(400.0, beta_fast=4, beta_slow=0.5, mscale=0.7, mscale_all_dim=1.3)},
    {"rope_parameters": yarn(400.0, mscale=1.0, mscale_all_dim=0.0)},
    {"rope_theta": 300.0, "partial_rotary_factor": 0.3},
    {"partial_rotary_factor": 0.3, "rope_parameters": rope(400.0, partial_rotary_factor=0.7)},
]


def rope_case(bench, name, make):
    """Wherever the numbers of RoPE lie in config.json: the logits of transformers, which reads the same file."""
    short = file_name(name)
    folder = bench.folder / f"{short}_hf"
    make().save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    data = bench.random_ids(short, 2 * SEQUENCE + 8)
    ropes = [r for r in ROPES if "partial_rotary_factor" not in r or written["model_type"] == "glm4_moe"]
    logits = []
    for i, says in enumerate(ropes):
        config = {k: v for k, v in written.items() if not k.startswith("rope_") and k != "partial_rotary_factor"}
        (folder / "config.json").write_text(json.dumps({**config, **says}))
        checkpoint = bench.folder / f"{short}_{i}"
        bench.run("import", folder, "--out", checkpoint)
        tokens, ours = bench.logits(checkpoint, data, "--format", "raw_u16")
        try:
            compare_logits(load(folder), tokens, ours)
        except Failure as failure:
            raise Failure(f"{says}: {failure}") from None
        logits.append(ours)
    least = (logits[1] - logits[2]).abs().max().item()
    check(least > 10 * TOLERANCE, f"other values of rope_theta change logits by {least:.3g} only")
    return f"{len(ropes)} configurations"


def head_case(bench):
    """A tied model whose file has a head: a copy, another one, or the head alone. The logits of transformers."""
    folder = bench.folder / "head_hf"
    make = IMPORTS["import qwen3_moe, dense layer, tied"]
    make().save_pretrained(folder)
    plain = load_file(folder / "model.safetensors")
    embedding = plain.pop("model.embed_tokens.weight")
    check("lm_head.weight" not in plain, "a tied model was saved with its head")
    data = bench.random_ids("head", 2 * SEQUENCE + 8)
    variants = {
        "copy": {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()},
        "another": {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.flip(0).contiguous()},
        "alone": {"lm_head.weight": embedding},
    }
    logits = {}
    for name, tensors in variants.items():
        save_file({**plain, **tensors}, folder / "model.safetensors", metadata={"format": "pt"})
        checkpoint = bench.folder / f"head_{name}"
        bench.run("import", folder, "--out", checkpoint)
        tokens, logits[name] = bench.logits(checkpoint, data, "--format", "raw_u16")
        compare_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokens, logits[name])
    check(torch.equal(logits["copy"], logits["alone"]), "a copy and the head alone give other logits")
    check((logits["copy"] - logits["another"]).abs().max() > 0.1, "another head gives the same logits")
    return ", ".join(variants)


def cases(bench):
    for name, make in IMPORTS.items():
        yield name, lambda name=name, make=make: import_case(bench, name, make)
    for name, make in IMPORTS.items():
        if "," not in name:
            yield f"rope of {name}", lambda name=name, make=make: rope_case(bench, f"rope {name}", make)
    for name in BACKBONES:
        yield name, lambda name=name: backbone_case(bench, name)
    yield "heads of a tied model", lambda: head_case(bench)
