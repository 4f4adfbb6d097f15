"""Two model classes that transformers does not have, made from a class of it that computes the same: names, layouts and
keys of config.json as the code beside their checkpoints has them. hf_parity.py imports such directories into strand.

Ling 2.0 (BailingMoeV2ForCausalLM) is Glm4Moe; DeepSeek-MoE (DeepseekForCausalLM) is Ernie4_5_Moe with moe_norm_min 1.0.
"""
import json
import re

import torch
from safetensors.torch import load_file, save_file


def _write(out, tensors, config):
    out.mkdir()
    save_file({name: t.contiguous() for name, t in tensors.items()}, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config))


def as_ling(folder, out):
    """The same model under the names of Ling 2.0. `folder` holds a Glm4Moe."""
    theirs = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    names = [("model.embed_tokens.", "model.word_embeddings."), (".self_attn.q_norm.", ".attention.query_layernorm."),
             (".self_attn.k_norm.", ".attention.key_layernorm."), (".self_attn.o_proj.", ".attention.dense."),
             (".mlp.gate.e_score_correction_bias", ".mlp.gate.expert_bias")]
    out_tensors = {}
    for name, t in tensors.items():
        attention = re.fullmatch(r"(model\.layers\.\d+\.)self_attn\.([qkv])_proj\.weight", name)
        if attention is None:
            for a, b in names:
                name = name.replace(a, b)
            out_tensors[name] = t
        elif attention[2] == "q":
            parts = [tensors[f"{attention[1]}self_attn.{part}_proj.weight"] for part in "qkv"]
            out_tensors[f"{attention[1]}attention.query_key_value.weight"] = torch.cat(parts)
    rope = theirs["rope_parameters"]
    _write(out, out_tensors, {
        "architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe",
        **{key: theirs[key] for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
            "intermediate_size", "moe_intermediate_size", "num_experts_per_tok", "n_group", "topk_group",
            "first_k_dense_replace", "routed_scaling_factor", "use_qk_norm", "rms_norm_eps", "initializer_range",
            "max_position_embeddings", "tie_word_embeddings")},
        "num_experts": theirs["n_routed_experts"], "num_shared_experts": theirs["n_shared_experts"],
        "moe_shared_expert_intermediate_size": theirs["n_shared_experts"] * theirs["moe_intermediate_size"],
        "partial_rotary_factor": rope["partial_rotary_factor"], "rope_theta": rope["rope_theta"], "rope_scaling": None,
        "score_function": "sigmoid", "norm_topk_prob": True, "router_dtype": "fp32",
        "moe_router_enable_expert_bias": True, "use_qkv_bias": False, "use_bias": False, "hidden_act": "silu",
        "num_nextn_predict_layers": 0})


def halves(matrix, head):
    """The rows of each head, from neighbours (2i, 2i + 1) to halves (i, i + head / 2)."""
    return matrix.reshape(-1, head // 2, 2, matrix.shape[1]).transpose(1, 2).reshape(matrix.shape)


def as_deepseek(folder, out):
    """The same model under the names of DeepSeek-MoE. `folder` holds an Ernie4_5_Moe with moe_norm_min 1.0."""
    theirs = json.loads((folder / "config.json").read_text())
    head = theirs["hidden_size"] // theirs["num_attention_heads"]
    out_tensors = {}
    for name, t in load_file(folder / "model.safetensors").items():
        if name.endswith("e_score_correction_bias"):
            assert not t.any(), name
            continue
        rotated = name.endswith(("self_attn.q_proj.weight", "self_attn.k_proj.weight"))
        out_tensors[name] = halves(t, head) if rotated else t
    _write(out, out_tensors, {
        "architectures": ["DeepseekForCausalLM"], "model_type": "deepseek",
        **{key: theirs[key] for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "intermediate_size", "moe_intermediate_size", "rms_norm_eps", "initializer_range",
            "max_position_embeddings", "tie_word_embeddings")},
        "n_routed_experts": theirs["moe_num_experts"], "num_experts_per_tok": theirs["moe_k"],
        "n_shared_experts": theirs["moe_num_shared_experts"],
        "first_k_dense_replace": theirs["moe_layer_start_index"], "moe_layer_freq": 1, "norm_topk_prob": False,
        "scoring_func": "softmax", "aux_loss_alpha": 0.001, "seq_aux": True, "rope_scaling": None,
        "rope_theta": theirs["rope_parameters"]["rope_theta"], "attention_bias": False, "hidden_act": "silu"})
