"""The configuration of a reference file: its keys, its checks, and its parameters."""

import json
from dataclasses import dataclass, fields
from typing import Any

# A file may lack these keys; the feature is off then. They are written only where they are used,
# because a reader may be older than the feature.
OPTIONAL_KEYS = {
    "entropy_weight",
    "groups",
    "groups_kept",
    "attention",
    "q_latent",
    "kv_latent",
    "nope_head_dim",
    "rope_head_dim",
    "value_head_dim",
    "rope_scaling",
    "yarn_factor",
    "yarn_original_length",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "yarn_mscale",
    "yarn_mscale_all_dim",
}
CHOICES = {
    "qk_norm": ("none", "head", "full"),
    "attention": ("heads", "mla"),
    "rope_scaling": ("none", "yarn"),
    "score": ("softmax", "sigmoid"),
    "cp_paths": ("token", "batch"),
    "cp_sources": ("all", "activated"),
    "lb_scope": ("sequence", "microbatch"),
}
TERMS = ("ce", "lb", "z", "sp", "cp", "o", "v", "entropy")


class CaseError(Exception):
    """A case or a reference file is not what it must be; the text says where and why."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training problem. The defaults are a small model that trains with CE alone."""

    # Model
    vocab_size: int = 64
    hidden_size: int = 32
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 4
    head_dim: int = 8
    rope_theta: float = 10000.0
    rope_fraction: float = 1.0
    qk_norm: str = "none"
    attention: str = "heads"  # "mla": latent attention
    q_latent: int = 0  # 0: queries come from x directly
    kv_latent: int = 0
    nope_head_dim: int = 0
    rope_head_dim: int = 0
    value_head_dim: int = 0
    rope_scaling: str = "none"
    yarn_factor: float = 1.0
    yarn_original_length: int = 0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    yarn_mscale: float = 1.0
    yarn_mscale_all_dim: float = 0.0
    norm_eps: float = 1e-5
    tied_embeddings: bool = True
    dense_layers: int = 0
    dense_ffn: int = 0
    num_experts: int = 6
    top_k: int = 2
    groups: int = 1
    groups_kept: int = 1
    expert_ffn: int = 16
    shared_experts: int = 0
    score: str = "softmax"
    renormalize: bool = False
    routed_scale: float = 1.0
    bias_rate: float = 0.0
    # Objective
    lb_weight: float = 0.0
    z_weight: float = 0.0
    sp_weight: float = 0.0
    cp_weight: float = 0.0
    cp_paths: str = "token"
    cp_sources: str = "all"
    o_weight: float = 0.0
    v_weight: float = 0.0
    entropy_weight: float = 0.0
    lb_scope: str = "sequence"
    # Optimizer
    lr: float = 5e-3
    min_lr: float = 5e-4
    warmup_steps: int = 2
    total_steps: int = 5
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    clip_norm: float = 1.0
    micro_batches: tuple[int, ...] = (2,)  # sequences of each micro-step, in order

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise CaseError(problem)

    def weight(self, term: str) -> float:
        return 1.0 if term == "ce" else getattr(self, f"{term}_weight")

    @property
    def sequences(self) -> int:
        return sum(self.micro_batches)

    @property
    def moe_layers(self) -> range:
        return range(self.dense_layers, self.num_layers)

    @property
    def rotated_dims(self) -> int:
        """R: how many dimensions of a head the rotary positions turn."""
        if self.attention == "mla":
            return self.rope_head_dim
        return round(self.rope_fraction * self.head_dim)


def config_from_json(values: dict[str, Any], where: str, complete: bool) -> Config:
    """`complete`: every key but the optional ones must be there, as in a reference file."""
    types: dict[str, type] = {field.name: type(field.default) for field in fields(Config)}
    for key, value in values.items():
        if key not in types:
            raise CaseError(f"{where}: the config has an unknown key, {key}")
        if not _has_type(value, types[key]):
            raise CaseError(f"{where}: {key} is {value!r}, but must be {types[key].__name__}")
    missing = types.keys() - values.keys() - OPTIONAL_KEYS
    if complete and missing:
        raise CaseError(f"{where}: the config has no {', '.join(sorted(missing))}")
    try:
        return Config(**{key: types[key](value) for key, value in values.items()})
    except CaseError as error:
        raise CaseError(f"{where}: {error}") from None


def config_to_json(config: Config) -> str:
    """Every key, but optional ones only where their value is not the default."""
    kept = {
        field.name: getattr(config, field.name)
        for field in fields(Config)
        if field.name not in OPTIONAL_KEYS or getattr(config, field.name) != field.default
    }
    return json.dumps(kept)


def parameter_shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter by name, with its shape. Linear weights are [out, in]. Selection biases are
    among them, although they have no gradient."""
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (c.vocab_size, c.hidden_size)}
    for layer in range(c.num_layers):
        at = f"layers.{layer}"
        shapes[f"{at}.attn_norm.weight"] = (c.hidden_size,)
        shapes[f"{at}.ffn_norm.weight"] = (c.hidden_size,)
        shapes |= _latent_attention(c, at) if c.attention == "mla" else _attention(c, at)
        if layer not in c.moe_layers:
            shapes |= _swiglu(f"{at}.mlp", c.hidden_size, c.dense_ffn)
            continue
        shapes[f"{at}.moe.router.weight"] = (c.num_experts, c.hidden_size)
        if c.bias_rate > 0:
            shapes[f"{at}.moe.router.bias"] = (c.num_experts,)
        for expert in range(c.num_experts):
            shapes |= _swiglu(f"{at}.moe.experts.{expert}", c.hidden_size, c.expert_ffn)
        if c.shared_experts:
            width = c.shared_experts * c.expert_ffn
            shapes |= _swiglu(f"{at}.moe.shared", c.hidden_size, width)
    shapes["norm.weight"] = (c.hidden_size,)
    if not c.tied_embeddings:
        shapes["lm_head.weight"] = (c.vocab_size, c.hidden_size)
    return shapes


def is_bias(name: str) -> bool:
    """Selection biases are no subject of the optimizer."""
    return name.endswith("router.bias")


def _attention(c: Config, at: str) -> dict[str, tuple[int, ...]]:
    q_rows, kv_rows = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}.attn.q_proj.weight": (q_rows, c.hidden_size),
        f"{at}.attn.k_proj.weight": (kv_rows, c.hidden_size),
        f"{at}.attn.v_proj.weight": (kv_rows, c.hidden_size),
        f"{at}.attn.o_proj.weight": (c.hidden_size, q_rows),
    }
    if c.qk_norm != "none":
        whole = c.qk_norm == "full"
        shapes[f"{at}.attn.q_norm.weight"] = (q_rows if whole else c.head_dim,)
        shapes[f"{at}.attn.k_norm.weight"] = (kv_rows if whole else c.head_dim,)
    return shapes


def _latent_attention(c: Config, at: str) -> dict[str, tuple[int, ...]]:
    q_rows = c.num_heads * (c.nope_head_dim + c.rope_head_dim)
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}.attn.kv_a_proj.weight": (c.kv_latent + c.rope_head_dim, c.hidden_size),
        f"{at}.attn.kv_a_norm.weight": (c.kv_latent,),
        f"{at}.attn.kv_b_proj.weight": (
            c.num_heads * (c.nope_head_dim + c.value_head_dim),
            c.kv_latent,
        ),
        f"{at}.attn.o_proj.weight": (c.hidden_size, c.num_heads * c.value_head_dim),
    }
    if c.q_latent:
        shapes[f"{at}.attn.q_a_proj.weight"] = (c.q_latent, c.hidden_size)
        shapes[f"{at}.attn.q_a_norm.weight"] = (c.q_latent,)
        shapes[f"{at}.attn.q_b_proj.weight"] = (q_rows, c.q_latent)
    else:
        shapes[f"{at}.attn.q_proj.weight"] = (q_rows, c.hidden_size)
    return shapes


def _swiglu(at: str, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{at}.gate_proj.weight": (inner, width),
        f"{at}.up_proj.weight": (inner, width),
        f"{at}.down_proj.weight": (width, inner),
    }


def _has_type(value: Any, expected: type) -> bool:
    if expected is tuple:
        return isinstance(value, list) and all(type(item) is int for item in value)
    if expected is float:
        return type(value) in (int, float)
    return type(value) is expected


def _problems(c: Config) -> list[str]:
    """What makes the configuration meaningless, one sentence each."""
    latent, yarn = c.attention == "mla", c.rope_scaling == "yarn"
    wrong_choices = [
        f"{key} is {getattr(c, key)!r}; it must be one of {', '.join(allowed)}"
        for key, allowed in CHOICES.items()
        if getattr(c, key) not in allowed
    ]
    positive = [
        "vocab_size hidden_size num_layers num_heads num_kv_heads head_dim num_experts top_k",
        "expert_ffn groups groups_kept rope_theta norm_eps total_steps",
        "dense_ffn" if c.dense_layers else "",
        "kv_latent nope_head_dim rope_head_dim value_head_dim" if latent else "",
        "yarn_original_length" if yarn else "",
    ]
    too_small = [
        f"{key} is {getattr(c, key)}; it must be above 0"
        for key in " ".join(positive).split()
        if not getattr(c, key) > 0
    ]
    if wrong_choices or too_small:
        return wrong_choices + too_small
    grouped = c.groups > 1
    rules = [
        (0 <= c.dense_layers < c.num_layers, "dense_layers is not between 0 and num_layers - 1"),
        (c.top_k <= c.num_experts, "top_k is above num_experts"),
        (c.num_heads % c.num_kv_heads == 0, "num_kv_heads does not divide num_heads"),
        (
            latent or c.rotated_dims == c.rope_fraction * c.head_dim,
            "rope_fraction * head_dim is not a whole number",
        ),
        (
            c.rotated_dims % 2 == 0 and (latent or c.rotated_dims <= c.head_dim),
            f"{c.rotated_dims} rotated dimensions: they must be even in number, and no more than a"
            " head has",
        ),
        (not latent or c.qk_norm == "none", "latent attention has no qk_norm"),
        (not yarn or c.yarn_factor >= 1, "yarn_factor is below 1"),
        (not grouped or c.num_experts % c.groups == 0, "groups does not divide num_experts"),
        (not grouped or c.num_experts >= 2 * c.groups, "a group needs two experts at least"),
        (not grouped or c.groups_kept < c.groups, "groups_kept is not below groups"),
        (
            not grouped or c.groups_kept * c.num_experts // c.groups >= c.top_k,
            "the kept groups have fewer experts than top_k",
        ),
        (grouped or c.groups_kept == 1, "groups_kept needs groups above 1"),
        (len(set(c.micro_batches)) == 1, "micro_batches must be equal, and at least one"),
        (min(c.micro_batches, default=0) > 0, "a micro-step needs a sequence"),
        (c.total_steps > max(c.warmup_steps, 1), "total_steps is not above warmup_steps"),
    ]
    return [problem for holds, problem in rules if not holds]
