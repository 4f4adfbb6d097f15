"""What a GGUF file of a model should hold: every key and every tensor, from the configuration and the checkpoint.
scripts/gguf_parity.py holds strand's files against it. It shares nothing with strand's own tables.
"""
import numpy as np
import sentencepiece
from parity_bench import SEQUENCE


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
