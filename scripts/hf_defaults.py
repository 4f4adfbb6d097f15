#!/usr/bin/env python3
"""What transformers takes every key of config.json for when the file leaves it out, for the classes that strand knows.

    python scripts/hf_defaults.py > tests/export/transformers_defaults.json

Asks transformers' own configuration classes, and knows those of two classes whose code lies beside their checkpoints.
Needs scripts/requirements-hf.txt; scripts/hf_parity.py compares the file with what the installed version says.
"""
import dataclasses
import json

import transformers

CLASSES = ["Mixtral", "Qwen3Moe", "Olmoe", "Qwen2Moe", "Ernie4_5_Moe", "Glm4Moe", "DeepseekV2"]

# configuration_bailing_moe_v2.py of inclusionAI/Ling-mini-2.0 (modeling_bailing_moe_v2.py takes partial_rotary_factor,
# which the configuration does not have, for 1.0), and configuration_deepseek.py of deepseek-ai/deepseek-moe-16b-base.
REMOTE = {
    "BailingMoeV2": {
        "vocab_size": 157184, "hidden_size": 2048, "intermediate_size": 5120, "num_hidden_layers": 20,
        "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu", "use_qkv_bias": False,
        "use_bias": False, "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "embedding_dropout": 0.0,
        "attention_dropout": 0.0, "output_dropout": 0.0, "initializer_range": 0.02, "max_position_embeddings": 32768,
        "rope_theta": 600000.0, "use_cache": True, "max_window_layers": 20, "rope_scaling": None,
        "pad_token_id": 156892, "eos_token_id": 156892, "num_experts": 256, "num_shared_experts": 1,
        "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "moe_intermediate_size": 512,
        "first_k_dense_replace": 1, "head_dim": 128, "output_router_logits": False, "use_qk_norm": True,
        "num_nextn_predict_layers": 0, "mtp_loss_scaling_factor": 0, "moe_router_enable_expert_bias": True,
        "routed_scaling_factor": 1.0, "score_function": "sigmoid", "partial_rotary_factor": 1.0},
    "Deepseek": {
        "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008, "moe_intermediate_size": 1407,
        "num_hidden_layers": 30, "num_attention_heads": 32, "num_key_value_heads": 32, "n_shared_experts": None,
        "n_routed_experts": None, "num_experts_per_tok": None, "moe_layer_freq": 1, "first_k_dense_replace": 0,
        "norm_topk_prob": False, "scoring_func": "softmax", "aux_loss_alpha": 0.001, "seq_aux": True,
        "hidden_act": "silu", "max_position_embeddings": 2048, "initializer_range": 0.02, "rms_norm_eps": 1e-06,
        "use_cache": True, "pad_token_id": None, "bos_token_id": 100000, "eos_token_id": 100001, "pretraining_tp": 1,
        "tie_word_embeddings": False, "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False,
        "attention_dropout": 0.0},
}


def plain(value):
    return value is None or isinstance(value, (bool, int, float, str))


def table():
    out = {"transformers": transformers.__version__}
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    for name in CLASSES:
        cls = getattr(transformers, name + "Config")
        keys = {field.name: field.default for field in dataclasses.fields(cls)
                if field.name not in base and plain(field.default)}
        keys["tie_word_embeddings"] = cls().tie_word_embeddings
        # RoPE's numbers may lie beside or inside rope_parameters; a configuration without either tells the defaults.
        rope = cls().rope_parameters
        keys["rope_theta"] = rope["rope_theta"]
        if "partial_rotary_factor" in rope:
            keys["partial_rotary_factor"] = rope["partial_rotary_factor"]
        out[name + "ForCausalLM"] = {"defaults": dict(sorted(keys.items())), "same_key": dict(cls.attribute_map)}
    for name, defaults in REMOTE.items():
        out[name + "ForCausalLM"] = {"defaults": dict(sorted(defaults.items())), "same_key": {}}
    return out


if __name__ == "__main__":
    print(json.dumps(table(), indent=1))
