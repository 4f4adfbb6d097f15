"""Tiny models of transformers' own classes, one for each name: what hf_imports.py and hf_training.py start from."""
import hf_backbones
import torch
import transformers
from parity_bench import SEQUENCE


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
        intermediate_size=72, n_shared_experts=2, first_k_dense_replace=1, routed_scaling_factor=1.5,
        num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=34, qk_nope_head_dim=14, qk_rope_head_dim=10,
        v_head_dim=18, rope_parameters=yarn(7000.0, mscale=0.707, mscale_all_dim=0.707)),
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
