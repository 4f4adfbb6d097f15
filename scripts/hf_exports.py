"""strand's exports in transformers: the same logits and texts, and the same bytes when they come back. Cases of
hf_parity.py."""
import json

import torch
from hf_compare import TOLERANCE, compare_greedy, compare_logits, load, same_tensors, tensors_of
from parity_bench import LATENT, check, file_name
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

YARN = {"model.rope_scaling": "yarn", "model.yarn_factor": 3.0, "model.yarn_original_length": 32,
        "model.yarn_beta_fast": 4.0, "model.yarn_beta_slow": 0.5, "model.yarn_mscale": 0.7,
        "model.yarn_mscale_all_dim": 1.3}
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


def cases(bench):
    for name, (cls, options) in EXPORTS.items():
        yield name, lambda name=name, cls=cls, options=options: export_case(bench, name, cls, options)
    yield "the comparison can fail", lambda: comparison_can_fail(bench)
