#!/usr/bin/env python3
"""strand's exports in transformers, and transformers' models in strand: the same logits, ids and bytes.

    python scripts/hf_parity.py [--strand build/strand] [--tokenizer FILE.model ...] [CASE ...]

Every case makes its own tiny model. A case name given selects the cases whose names contain it. Exit status 1 when
anything differs. Needs scripts/requirements-hf.txt; scripts/hf_parity.sh makes the environment and runs this.

Tolerance: logits of 1 to 10 in fp32, sums of about a hundred products in another order: differences of some 1e-6.
Wrong mathematics (a missing renormalization, a rotation of the wrong half) gives 1e-2 and more.
"""
import json
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import chat_parity
import hf_backbones
import hf_defaults
import hf_training
import lm_eval_parity
import numpy as np
import torch
import transformers
from parity_bench import (ODD_LINES, ROOT, SEQUENCE, Bench, Failure, check, file_name, random_lines, run_program,
                          token_ids)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4
PROMPTS = ["// Errors carry", "The quick brown fox", "  1234 été"]

YARN = {"model.rope_scaling": "yarn", "model.yarn_factor": 3.0, "model.yarn_original_length": 32,
        "model.yarn_beta_fast": 4.0, "model.yarn_beta_slow": 0.5, "model.yarn_mscale": 0.7,
        "model.yarn_mscale_all_dim": 1.3}
# Nothing is 2 or 4 wide, where reordering rows would be its own inverse.
LATENT = {"model.attention": "mla", "model.kv_latent": 34, "model.nope_head_dim": 14, "model.rope_head_dim": 10,
          "model.value_head_dim": 18, "model.num_kv_heads": 4, "model.head_dim": 24}
# name: (class, options that differ from BASE)
EXPORTS = {
    "export mixtral": ("MixtralForCausalLM", {"moe.renormalize": True}),
    "export mixtral, tied": ("MixtralForCausalLM", {"moe.renormalize": True, "model.tied_embeddings": True}),
    "export mixtral, padded vocabulary": ("MixtralForCausalLM", {"moe.renormalize": True, "model.vocab_size": 560}),
    "export qwen3_moe, renormalized": (
        "Qwen3MoeForCausalLM", {"moe.renormalize": True, "model.qk_norm": "head", "model.head_dim": 32, "model.num_kv_heads": 1}),
    "export qwen3_moe, not renormalized, dense layers": (
        "Qwen3MoeForCausalLM", {"model.qk_norm": "head", "model.dense_layers": 1, "model.dense_ffn": 80}),
    "export olmoe": ("OlmoeForCausalLM", {"model.qk_norm": "full", "model.head_dim": 18}),
    "export olmoe, renormalized": (
        "OlmoeForCausalLM", {"model.qk_norm": "full", "model.head_dim": 18, "moe.renormalize": True}),
    "export qwen2_moe": ("Qwen2MoeForCausalLM", {"model.head_dim": 18}),
    "export qwen2_moe, renormalized, dense layers": (
        "Qwen2MoeForCausalLM", {"model.head_dim": 18, "moe.renormalize": True, "model.dense_layers": 2, "model.dense_ffn": 80}),
    "export ernie4_5_moe, renormalized": (
        "Ernie4_5_MoeForCausalLM", {"moe.shared_experts": 1, "moe.bias_rate": 0.05, "moe.renormalize": True}),
    "export ernie4_5_moe, not renormalized": (
        "Ernie4_5_MoeForCausalLM", {"moe.shared_experts": 2, "moe.bias_rate": 0.05, "model.head_dim": 24,
                                    "model.tied_embeddings": True}),
    "export ernie4_5_moe, no bias, dense layers": (
        "Ernie4_5_MoeForCausalLM", {"moe.shared_experts": 1, "model.dense_layers": 1, "model.dense_ffn": 80}),
    "export ernie4_5_moe, no shared expert": ("Ernie4_5_MoeForCausalLM", {"moe.bias_rate": 0.05}),
    "export glm4_moe": (
        "Glm4MoeForCausalLM", {"moe.score": "sigmoid", "moe.shared_experts": 1, "moe.bias_rate": 0.05,
                               "moe.renormalize": True}),
    "export glm4_moe, all options": (
        "Glm4MoeForCausalLM", {"moe.score": "sigmoid", "moe.shared_experts": 2, "moe.bias_rate": 0.05,
                               "moe.renormalize": True, "moe.routed_scale": 2.5, "model.qk_norm": "head",
                               "model.rope_fraction": 0.3, "model.dense_layers": 1, "model.dense_ffn": 80}),
    "export glm4_moe, groups of experts": (
        "Glm4MoeForCausalLM", {"moe.score": "sigmoid", "moe.bias_rate": 0.05, "moe.renormalize": True,
                               "moe.num_experts": 12, "moe.top_k": 3, "moe.groups": 4, "moe.groups_kept": 2}),
    "export qwen3_moe, yarn": (
        "Qwen3MoeForCausalLM", {"moe.renormalize": True, "model.qk_norm": "head", **YARN, "model.yarn_mscale": 1.0,
                                "model.yarn_mscale_all_dim": 0.0}),
    "export glm4_moe, yarn": (
        "Glm4MoeForCausalLM", {"moe.score": "sigmoid", "moe.renormalize": True, "model.rope_fraction": 0.5, **YARN}),
    "export ernie4_5_moe, yarn": ("Ernie4_5_MoeForCausalLM", {"moe.shared_experts": 1, **YARN}),
    "export deepseek_v2": ("DeepseekV2ForCausalLM", {**LATENT, "moe.shared_experts": 2, "moe.routed_scale": 1.5,
                                                     "model.dense_layers": 1, "model.dense_ffn": 80}),
    "export deepseek_v2, yarn, latent of queries, no shared expert, tied": (
        "DeepseekV2ForCausalLM", {**LATENT, **YARN, "model.q_latent": 26, "model.tied_embeddings": True}),
    "export glm4_moe, no bias, no shared expert": ("Glm4MoeForCausalLM", {"moe.score": "sigmoid"}),
}

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


def export_case(bench, name, expected_class, options):
    short = file_name(name)
    run = bench.train(short, options)
    out = bench.folder / f"{short}_hf"
    bench.run("export", run, "--format", "hf", "--out", out)
    config = json.loads((out / "config.json").read_text())
    check(config["architectures"] == [expected_class], f"class {config['architectures']}, not {expected_class}")
    model = load(out)
    check(type(model).__name__ == expected_class, type(model).__name__)
    tokens, ours = bench.logits(run, bench.data)
    worst = compare_logits(model, tokens, ours)
    compare_greedy(bench, run, out, model)

    # Out, in and out again: the same bytes; and the model in between computes the same.
    imported = bench.folder / f"{short}_imported"
    bench.run("import", out, "--out", imported)
    again = bench.folder / f"{short}_again"
    bench.run("export", imported, "--out", again)
    same_tensors(tensors_of(out), tensors_of(again), "export, import, export")
    config_again = json.loads((again / "config.json").read_text())
    for c in (config, config_again):
        c.pop("router_aux_loss_coef", None)  # of training; no checkpoint keeps it
        c.pop("aux_loss_alpha", None)
    check(config == config_again, f"config.json became {config_again}, was {config}")
    for file in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        check((out / file).read_bytes() == (again / file).read_bytes(), f"{file} differs after the round trip")
    tokens_again, ours_again = bench.logits(imported, bench.data)
    check(torch.equal(tokens, tokens_again) and torch.equal(ours, ours_again), "the imported model's logits differ")

    # transformers 5 in memory: experts stacked. Import reads that too.
    fused = bench.folder / f"{short}_fused"
    fused.mkdir()
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    check(any(k.endswith("experts.gate_up_proj") for k in state), "no stacked experts in memory: is this transformers 5?")
    if config["tie_word_embeddings"]:
        del state["lm_head.weight"]
    save_file(state, fused / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(fused)
    bench.run("import", fused, "--out", bench.folder / f"{short}_from_fused")
    bench.run("export", bench.folder / f"{short}_from_fused", "--out", bench.folder / f"{short}_fused_again")
    same_tensors(tensors_of(out), tensors_of(bench.folder / f"{short}_fused_again"), "from stacked experts")

    # What transformers writes of it, in its own layout and shards.
    theirs = bench.folder / f"{short}_theirs"
    model.save_pretrained(theirs, max_shard_size="200KB")
    bench.run("import", theirs, "--out", bench.folder / f"{short}_from_theirs")
    bench.run("export", bench.folder / f"{short}_from_theirs", "--out", bench.folder / f"{short}_theirs_again")
    same_tensors(tensors_of(out), tensors_of(bench.folder / f"{short}_theirs_again"), "from save_pretrained")

    # Half the bytes: rounded to nearest even, router and bias untouched.
    half = bench.folder / f"{short}_bf16"
    bench.run("export", run, "--out", half, "--dtype", "bf16")
    full = load_file(out / "model.safetensors")
    for key, t in load_file(half / "model.safetensors").items():
        router = key.endswith(("mlp.gate.weight", "block_sparse_moe.gate.weight", "e_score_correction_bias"))
        check(t.dtype == (torch.float32 if router else torch.bfloat16), f"{key} is {t.dtype}")
        check(torch.equal(t, full[key] if router else full[key].to(torch.bfloat16)), f"{key} is rounded differently")
    check(json.loads((half / "config.json").read_text())["torch_dtype"] == "bfloat16", "torch_dtype")
    AutoModelForCausalLM.from_pretrained(half, dtype="auto")
    return f"logits within {worst:.1e}"


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


def yarn(theta, **more):
    return {"rope_type": "yarn", "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": 24, **more}


def tiny(config_class, model_class, **options):
    torch.manual_seed(3)
    options = {"num_key_value_heads": 2, "rms_norm_eps": 3e-6, "rope_parameters": rope(7000.0),
               "num_experts_per_tok": 3, **options}
    config = config_class(vocab_size=311, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                          max_position_embeddings=SEQUENCE, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
                          pad_token_id=0, **options)
    return model_class(config).eval()


IMPORTS = {
    "import mixtral": lambda: tiny(transformers.MixtralConfig, transformers.MixtralForCausalLM, intermediate_size=40,
                                   num_local_experts=5, head_dim=20),
    "import qwen3_moe": lambda: tiny(transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, head_dim=20,
                                     num_experts=5, moe_intermediate_size=40, norm_topk_prob=True),
    "import qwen3_moe, dense layer, tied": lambda: tiny(
        transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, head_dim=14, num_experts=5,
        moe_intermediate_size=40, intermediate_size=72, mlp_only_layers=[0], norm_topk_prob=False,
        tie_word_embeddings=True),
    "import olmoe": lambda: tiny(transformers.OlmoeConfig, transformers.OlmoeForCausalLM, intermediate_size=40,
                                 num_experts=5),
    "import olmoe, every head its own keys": lambda: tiny(
        transformers.OlmoeConfig, transformers.OlmoeForCausalLM, intermediate_size=40, num_experts=5,
        num_key_value_heads=None, norm_topk_prob=True),
    "import qwen2_moe, zero biases and shared experts": lambda: tiny(
        transformers.Qwen2MoeConfig, transformers.Qwen2MoeForCausalLM, num_experts=5, moe_intermediate_size=40,
        intermediate_size=72, mlp_only_layers=[0], shared_expert_intermediate_size=32, norm_topk_prob=True),
    "import ernie4_5_moe": lambda: tiny(
        transformers.Ernie4_5_MoeConfig, transformers.Ernie4_5_MoeForCausalLM, moe_num_experts=5, moe_k=3,
        moe_intermediate_size=40, intermediate_size=72, moe_num_shared_experts=2, moe_layer_start_index=1,
        moe_layer_end_index=2, head_dim=20, tie_word_embeddings=False),
    "import ernie4_5_moe, tied, not renormalized": lambda: tiny(
        transformers.Ernie4_5_MoeConfig, transformers.Ernie4_5_MoeForCausalLM, moe_num_experts=5, moe_k=3,
        moe_intermediate_size=40, intermediate_size=72, moe_num_shared_experts=1, moe_layer_start_index=2,
        moe_norm_min=1.0),
    "import glm4_moe": lambda: tiny(
        transformers.Glm4MoeConfig, transformers.Glm4MoeForCausalLM, n_routed_experts=5, moe_intermediate_size=40,
        intermediate_size=72, n_shared_experts=2, first_k_dense_replace=1, routed_scaling_factor=1.5, use_qk_norm=True,
        head_dim=20, rope_parameters=rope(7000.0, partial_rotary_factor=0.3)),
    "import deepseek_v2": lambda: tiny(
        transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM, n_routed_experts=7, moe_intermediate_size=40,
        intermediate_size=72, n_shared_experts=2, first_k_dense_replace=1, routed_scaling_factor=1.5,
        num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=34, qk_nope_head_dim=14, qk_rope_head_dim=10,
        v_head_dim=18, rope_parameters=rope(7000.0)),
    "import deepseek_v2, yarn": lambda: tiny(
        transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM, n_routed_experts=7, moe_intermediate_size=40,
        intermediate_size=72, n_shared_experts=2, first_k_dense_replace=1, num_key_value_heads=4, q_lora_rank=None,
        kv_lora_rank=34, qk_nope_head_dim=14, qk_rope_head_dim=10, v_head_dim=18,
        rope_parameters=yarn(7000.0, mscale=0.707, mscale_all_dim=0.707)),
    "import deepseek_v2, yarn, latent of queries, tied": lambda: tiny(
        transformers.DeepseekV2Config, transformers.DeepseekV2ForCausalLM, n_routed_experts=7, moe_intermediate_size=40,
        intermediate_size=72, n_shared_experts=1, num_key_value_heads=4, q_lora_rank=26, kv_lora_rank=34,
        qk_nope_head_dim=14, qk_rope_head_dim=10, v_head_dim=18, tie_word_embeddings=True,
        rope_parameters=yarn(7000.0, mscale=0.7, mscale_all_dim=1.3, beta_fast=4, beta_slow=0.5)),
    "import qwen3_moe, yarn": lambda: tiny(
        transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, head_dim=20, num_experts=5,
        moe_intermediate_size=40, norm_topk_prob=True, rope_parameters=yarn(7000.0)),
    "import glm4_moe, groups of experts": lambda: tiny(
        transformers.Glm4MoeConfig, transformers.Glm4MoeForCausalLM, n_routed_experts=12, moe_intermediate_size=40,
        intermediate_size=72, n_shared_experts=1, first_k_dense_replace=1, n_group=4, topk_group=2,
        num_experts_per_tok=3, head_dim=20),
}


def randomize(model):
    """Norms that are not 1, selection biases that are not 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, t in list(model.named_parameters()) + list(model.named_buffers()):
            if name.endswith(("norm.weight", "layernorm.weight", "e_score_correction_bias")):
                t.add_(0.2 * torch.randn(t.shape, generator=generator))
            if "mlp.shared_expert." in name or name.endswith("proj.bias"):  # of Qwen2-MoE: none that adds anything
                t.zero_()
            if "shared_expert_gate" in name:
                t.fill_(1.0)


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


# Classes that transformers does not have: (a class of it that computes the same, the same under the class's names,
# the class that export takes by itself).
BACKBONES = {
    "import bailing_moe_v2": (
        lambda: tiny(transformers.Glm4MoeConfig, transformers.Glm4MoeForCausalLM, n_routed_experts=16,
                     moe_intermediate_size=40, intermediate_size=72, n_shared_experts=2, first_k_dense_replace=1,
                     routed_scaling_factor=2.5, use_qk_norm=True, head_dim=20, n_group=4, topk_group=2,
                     rope_parameters=rope(7000.0, partial_rotary_factor=0.5)),
        hf_backbones.as_ling, "Glm4MoeForCausalLM"),
    "import deepseek": (
        lambda: tiny(transformers.Ernie4_5_MoeConfig, transformers.Ernie4_5_MoeForCausalLM, moe_num_experts=7, moe_k=3,
                     moe_intermediate_size=40, intermediate_size=72, moe_num_shared_experts=2, moe_norm_min=1.0,
                     moe_layer_start_index=1, moe_layer_end_index=2, tie_word_embeddings=False),
        hf_backbones.as_deepseek, "DeepseekForCausalLM"),
}


def backbone_model(name):
    """The model, with a selection bias where its class has one."""
    model = BACKBONES[name][0]()
    randomize(model)
    if name == "import deepseek":
        for parameter_or_buffer, t in list(model.named_parameters()) + list(model.named_buffers()):
            if parameter_or_buffer.endswith("e_score_correction_bias"):
                t.requires_grad_(False).zero_()
    return model


def backbone_case(bench, name):
    """Import of a class that transformers does not have, against the class of it that computes the same."""
    short = "".join(c if c.isalnum() else "_" for c in name)
    _, renamed, written = BACKBONES[name]
    model = backbone_model(name)
    same, folder = bench.folder / f"{short}_same", bench.folder / f"{short}_hf"
    model.save_pretrained(same)
    renamed(same, folder)
    data = bench.folder / f"{short}.bin"
    data.write_bytes(np.random.default_rng(2).integers(0, 311, 2 * SEQUENCE + 8).astype(np.uint16).tobytes())
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


# The classes whose training is compared: every one of transformers, and those that it does not have.
TRAINED = [name for name in IMPORTS if "," not in name] + ["import qwen2_moe, zero biases and shared experts",
                                                           "import glm4_moe, groups of experts",
                                                           "import deepseek_v2, yarn", "import qwen3_moe, yarn",
                                                           "import deepseek_v2, yarn, latent of queries, tied"]


def train_case(bench, name):
    """Gradients and steps against autograd through the class."""
    if name in BACKBONES:
        model, renamed = backbone_model(name), BACKBONES[name][1]
    else:
        model, renamed = IMPORTS[name](), None
        randomize(model)
    for parameter, t in model.named_parameters():  # what strand does not have, or does not train
        if "mlp.shared_expert" in parameter and "shared_experts" not in parameter or parameter.endswith("bias"):
            t.requires_grad_(False)

    def import_model(model, short):
        folder = bench.folder / f"{short}_model"
        with torch.no_grad():
            for parameter, t in model.named_parameters():
                if "shared_expert_gate" in parameter:
                    t.fill_(1.0)
        model.save_pretrained(folder)
        if renamed:
            renamed(folder, bench.folder / f"{short}_renamed")
            folder = bench.folder / f"{short}_renamed"
        checkpoint = bench.folder / f"{short}_checkpoint" / "step_00000000"
        bench.run("import", folder, "--out", checkpoint)
        return checkpoint

    return hf_training.training_case(bench, f"train {name}", model, import_model)


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


# name: (options of a model, keys of config.json to falsify)
FALSE_CONFIGS = {
    "qwen2_moe": ({"model.head_dim": 18}, {"norm_topk_prob": True}),
    "ernie4_5_moe": ({"moe.shared_experts": 1, "moe.bias_rate": 0.05}, {"moe_norm_min": 1e-12}),
    "glm4_moe": ({"moe.score": "sigmoid", "model.rope_fraction": 0.5},
                 {"rope_parameters": {"rope_type": "default", "rope_theta": 7000.0, "partial_rotary_factor": 1.0},
                  "partial_rotary_factor": 1.0}),
    "mixtral": ({"moe.renormalize": True}, {"rms_norm_eps": 1e-3}),
}


def comparison_can_fail(bench):
    """A model whose config.json says something a little wrong is far outside the tolerance."""
    least = float("inf")
    for name, (options, lie) in FALSE_CONFIGS.items():
        run = bench.train(f"false_{name}", options)
        out = bench.folder / f"false_{name}_hf"
        bench.run("export", run, "--out", out)
        config = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps({**config, **lie}))
        tokens, ours = bench.logits(run, bench.data)
        with torch.no_grad():
            worst = (load(out)(tokens).logits - ours).abs().max().item()
        check(worst > 10 * TOLERANCE, f"{lie} in {name} changes logits by {worst:.3g} only")
        least = min(least, worst)
    return f"false configurations change logits by {least:.1e} or more"


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
    for name, (cls, options) in EXPORTS.items():
        yield name, lambda name=name, cls=cls, options=options: export_case(bench, name, cls, options)
    for name, make in IMPORTS.items():
        yield name, lambda name=name, make=make: import_case(bench, name, make)
    for name, make in IMPORTS.items():
        if "," not in name:
            yield f"rope of {name}", lambda name=name, make=make: rope_case(bench, f"rope {name}", make)
    for name in BACKBONES:
        yield name, lambda name=name: backbone_case(bench, name)
    for name in [*TRAINED, *BACKBONES]:
        yield f"train {name}", lambda name=name: train_case(bench, name)
    yield "heads of a tied model", lambda: head_case(bench)
    yield "defaults of absent keys", defaults_case
    yield "the comparison can fail", lambda: comparison_can_fail(bench)
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
