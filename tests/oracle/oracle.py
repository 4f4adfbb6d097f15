"""strand's mathematics in float64 with plain autograd: model, objective, optimizer, trajectory.

Written from docs/mathematics.md, the last section of which defines what the program does not have.
It shares nothing with the program. Letters in names give shapes: B sequences, S tokens of each,
T = B*S tokens, D width, H query heads, G key/value heads, A width of a head, E experts, K experts
of a token, F inner width of an expert.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, silu

import strand_terms
from case_config import TERMS, Config, is_bias, parameter_shapes

Parameters = dict[str, Tensor]
LATENT_EPS = 1e-6  # of the norms of latent attention's latents, whatever norm_eps is


@dataclass
class Routing:
    """What the terms see of one MoE layer. Token t is sequence * S + position."""

    logits_te: Tensor
    choice_te: Tensor  # score + bias, by which experts are chosen
    p_te: Tensor
    selected_tk: Tensor  # by descending score + bias
    z_tkf: Tensor
    y_tkd: Tensor


@dataclass
class Forward:
    logits_bsv: Tensor
    routing: list[Routing]  # one a MoE layer, from below


@dataclass
class Step:
    """What one step of training measures before its update."""

    loss: float
    ce: float
    lr: float
    grad_norm: float
    forward: Forward


# Model


def forward(c: Config, params: Parameters, tokens_bs: Tensor) -> Forward:
    routing: list[Routing] = []
    sequences, length = tokens_bs.shape
    x_bsd = params["embed_tokens.weight"][tokens_bs.long()]
    for layer in range(c.num_layers):
        at = f"layers.{layer}"
        h_bsd = rmsnorm(x_bsd, params[f"{at}.attn_norm.weight"], c.norm_eps)
        attend = latent_attention if c.attention == "mla" else attention
        x_bsd = x_bsd + attend(c, params, f"{at}.attn", h_bsd)
        h_bsd = rmsnorm(x_bsd, params[f"{at}.ffn_norm.weight"], c.norm_eps)
        if layer in c.moe_layers:
            out_td, seen = mixture(c, params, f"{at}.moe", h_bsd.flatten(0, 1))
            routing.append(seen)
            x_bsd = x_bsd + out_td.unflatten(0, (sequences, length))
        else:
            x_bsd = x_bsd + swiglu(params, f"{at}.mlp", h_bsd)
    head = params["embed_tokens.weight" if c.tied_embeddings else "lm_head.weight"]
    return Forward(rmsnorm(x_bsd, params["norm.weight"], c.norm_eps) @ head.T, routing)


def rmsnorm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * weight


def swiglu(params: Parameters, at: str, x: Tensor) -> Tensor:
    gate, up, down = (params[f"{at}.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def attention(c: Config, params: Parameters, at: str, x_bsd: Tensor) -> Tensor:
    q, k, v = (x_bsd @ params[f"{at}.{name}_proj.weight"].T for name in "qkv")
    if c.qk_norm == "full":
        q = rmsnorm(q, params[f"{at}.q_norm.weight"], c.norm_eps)
        k = rmsnorm(k, params[f"{at}.k_norm.weight"], c.norm_eps)
    q_bhsa, k_bgsa, v_bgsa = (heads(x, c.head_dim) for x in (q, k, v))
    if c.qk_norm == "head":
        q_bhsa = rmsnorm(q_bhsa, params[f"{at}.q_norm.weight"], c.norm_eps)
        k_bgsa = rmsnorm(k_bgsa, params[f"{at}.k_norm.weight"], c.norm_eps)
    of_query = torch.arange(c.num_heads) // (c.num_heads // c.num_kv_heads)
    k_bhsa, v_bhsa = rotate(c, k_bgsa)[:, of_query], v_bgsa[:, of_query]
    mixed = causal_mix(rotate(c, q_bhsa), k_bhsa, v_bhsa, c.head_dim**-0.5)
    return mixed @ params[f"{at}.o_proj.weight"].T


def latent_attention(c: Config, params: Parameters, at: str, x_bsd: Tensor) -> Tensor:
    """Queries and keys have a still part (n) and a turning part (p); one turning key for all heads;
    keys and values come from a normed latent."""
    if c.q_latent:
        latent = x_bsd @ params[f"{at}.q_a_proj.weight"].T
        latent = rmsnorm(latent, params[f"{at}.q_a_norm.weight"], LATENT_EPS)
        q = latent @ params[f"{at}.q_b_proj.weight"].T
    else:
        q = x_bsd @ params[f"{at}.q_proj.weight"].T
    q_still, q_turning = heads(q, c.nope_head_dim + c.rope_head_dim).split(
        [c.nope_head_dim, c.rope_head_dim], dim=-1
    )
    latent, k_turning = (x_bsd @ params[f"{at}.kv_a_proj.weight"].T).split(
        [c.kv_latent, c.rope_head_dim], dim=-1
    )
    latent = rmsnorm(latent, params[f"{at}.kv_a_norm.weight"], LATENT_EPS)
    kv = heads(latent @ params[f"{at}.kv_b_proj.weight"].T, c.nope_head_dim + c.value_head_dim)
    k_still, v_bhsv = kv.split([c.nope_head_dim, c.value_head_dim], dim=-1)
    k_turning = rotate(c, k_turning.unsqueeze(1)).expand(-1, c.num_heads, -1, -1)
    q_bhsa = torch.cat([q_still, rotate(c, q_turning)], dim=-1)
    k_bhsa = torch.cat([k_still, k_turning], dim=-1)
    scale = (c.nope_head_dim + c.rope_head_dim) ** -0.5
    if c.rope_scaling == "yarn":
        scale *= yarn_magnitude(c, c.yarn_mscale_all_dim) ** 2
    return causal_mix(q_bhsa, k_bhsa, v_bhsv, scale) @ params[f"{at}.o_proj.weight"].T


def heads(x: Tensor, width: int) -> Tensor:
    """[B, S, heads * width] -> [B, heads, S, width]."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def causal_mix(q_bhsa: Tensor, k_bhsa: Tensor, v_bhsv: Tensor, scale: float) -> Tensor:
    """Causal softmax attention -> [B, S, heads * value width]."""
    scores_bhss = q_bhsa @ k_bhsa.transpose(-1, -2) * scale
    later = torch.ones(scores_bhss.shape[-2:], dtype=torch.bool).triu(diagonal=1)
    weights_bhss = scores_bhss.masked_fill(later, -math.inf).softmax(dim=-1)
    return (weights_bhss @ v_bhsv).transpose(1, 2).flatten(-2)


def rotate(c: Config, x_bhsa: Tensor) -> Tensor:
    """Turns the first R dimensions: pair (i, i + R/2) as a complex number, times a unit number."""
    dims, length = c.rotated_dims, x_bhsa.shape[-2]
    if dims == 0:
        return x_bhsa
    turning, still = x_bhsa[..., :dims], x_bhsa[..., dims:]
    pairs = torch.complex(turning[..., : dims // 2], turning[..., dims // 2 :])
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies(c))
    size = 1.0
    if c.rope_scaling == "yarn":
        size = yarn_magnitude(c, c.yarn_mscale) / yarn_magnitude(c, c.yarn_mscale_all_dim)
    pairs = pairs * torch.polar(torch.full_like(angles, size), angles)
    return torch.cat([pairs.real, pairs.imag, still], dim=-1)


def frequencies(c: Config) -> Tensor:
    """The angle that one position turns each of the R/2 pairs by."""
    dims = c.rotated_dims
    i = torch.arange(dims // 2, dtype=torch.float64)
    plain = c.rope_theta ** (-2 * i / dims)
    if c.rope_scaling != "yarn":
        return plain

    def dimension(rotations: float) -> float:
        """The i whose pair turns `rotations` times over the original length."""
        full_turn = c.yarn_original_length / (2 * math.pi * rotations)
        return dims * math.log(full_turn) / (2 * math.log(c.rope_theta))

    low = max(math.floor(dimension(c.yarn_beta_fast)), 0)
    high: float = min(math.ceil(dimension(c.yarn_beta_slow)), dims - 1)
    high = high + 0.001 if low == high else high
    slowed = ((i - low) / (high - low)).clamp(0, 1)
    return plain * (1 - slowed) + plain / c.yarn_factor * slowed


def yarn_magnitude(c: Config, mscale: float) -> float:
    if c.yarn_factor <= 1 or mscale == 0:
        return 1.0
    return 0.1 * mscale * math.log(c.yarn_factor) + 1


def mixture(c: Config, params: Parameters, at: str, x_td: Tensor) -> tuple[Tensor, Routing]:
    """Computes every expert on every token, and then picks: slow and simple."""
    logits_te = x_td @ params[f"{at}.router.weight"].T
    s_te = logits_te.softmax(dim=-1) if c.score == "softmax" else logits_te.sigmoid()
    p_te = strand_terms.router_probabilities(logits_te, c.score)
    choice_te = s_te + params[f"{at}.router.bias"] if c.bias_rate > 0 else s_te
    selected_tk = select(c, choice_te)

    gate_efd, up_efd, down_edf = (
        torch.stack([params[f"{at}.experts.{e}.{name}_proj.weight"] for e in range(c.num_experts)])
        for name in ("gate", "up", "down")
    )
    z_etf = silu(x_td @ gate_efd.mT) * (x_td @ up_efd.mT)
    y_etd = z_etf @ down_edf.mT
    token_t1 = torch.arange(x_td.shape[0]).unsqueeze(-1)
    z_tkf, y_tkd = z_etf[selected_tk, token_t1], y_etd[selected_tk, token_t1]

    weight_tk = s_te.gather(-1, selected_tk)
    if c.renormalize:
        weight_tk = weight_tk / weight_tk.sum(dim=-1, keepdim=True)
    out_td = (c.routed_scale * weight_tk.unsqueeze(-1) * y_tkd).sum(dim=1)
    if c.shared_experts:
        out_td = out_td + swiglu(params, f"{at}.shared", x_td)
    return out_td, Routing(logits_te, choice_te, p_te, selected_tk, z_tkf, y_tkd)


def select(c: Config, choice_te: Tensor) -> Tensor:
    """A_t: the K experts of largest score + bias, by descending value; only experts of the kept
    groups where there are groups."""
    return strand_terms.largest(kept_choices(c, choice_te), c.top_k)


def kept_choices(c: Config, choice_te: Tensor) -> Tensor:
    """`choice_te` with -inf for the experts of groups that were not kept."""
    if c.groups == 1:
        return choice_te
    kept_tg = strand_terms.largest(group_scores(c, choice_te), c.groups_kept)
    group_of_expert = torch.arange(c.num_experts) // (c.num_experts // c.groups)
    kept_te = (kept_tg.unsqueeze(-1) == group_of_expert).any(dim=1)
    return choice_te.masked_fill(~kept_te, -math.inf)


def group_scores(c: Config, choice_te: Tensor) -> Tensor:
    """[T, groups]: the sum of each group's two largest values."""
    by_group = choice_te.unflatten(-1, (c.groups, -1))
    return by_group.gather(-1, strand_terms.largest(by_group, 2)).sum(dim=-1)


# Objective


def terms(c: Config, out: Forward, targets_bs: Tensor) -> dict[str, Tensor]:
    """Every term of the step without its weight, summed over layers."""
    zero = out.logits_bsv.new_zeros(())
    value = dict.fromkeys(TERMS, zero)
    value["ce"] = cross_entropy_of_valid(out.logits_bsv, targets_bs)
    length = targets_bs.shape[1]
    # Statistics of lb and v are taken over `scope` tokens at a time, those of cp's batch form over
    # a micro-step. All scopes have the same size, so a mean over them is the mean of the step.
    micro_step = c.micro_batches[0] * length
    scope = length if c.lb_scope == "sequence" else micro_step
    for layer in out.routing:
        p, selected = (x.unflatten(0, (-1, scope)) for x in (layer.p_te, layer.selected_tk))
        value["lb"] = value["lb"] + strand_terms.lb(p, selected)
        value["v"] = value["v"] + strand_terms.v(p)
        value["z"] = value["z"] + strand_terms.z(layer.logits_te)
        value["sp"] = value["sp"] + strand_terms.sp(layer.z_tkf)
        value["o"] = value["o"] + strand_terms.o(layer.y_tkd)
        value["entropy"] = value["entropy"] + strand_terms.entropy(layer.p_te)
    for lower, upper in pairwise(out.routing):
        value["cp"] = value["cp"] + coupling(c, lower, upper, micro_step)
    return value


def cross_entropy_of_valid(logits_bsv: Tensor, targets_bs: Tensor) -> Tensor:
    """Mean over the valid targets of the step; 0 where there is none."""
    valid_bs = targets_bs >= 0
    if not valid_bs.any():
        return logits_bsv.sum() * 0
    return cross_entropy(logits_bsv[valid_bs], targets_bs[valid_bs].long())


def coupling(c: Config, lower: Routing, upper: Routing, micro_step: int) -> Tensor:
    selected = lower.selected_tk if c.cp_sources == "activated" else None
    if c.cp_paths == "token":
        return strand_terms.cp_token(lower.p_te, upper.p_te, c.top_k, selected)
    cuts = range(0, lower.p_te.shape[0], micro_step)
    parts = [slice(start, start + micro_step) for start in cuts]
    values = [
        strand_terms.cp_batch(
            lower.p_te[part],
            upper.p_te[part],
            c.top_k,
            None if selected is None else selected[part],
        )
        for part in parts
    ]
    return torch.stack(values).mean()


def total(c: Config, value: dict[str, Tensor]) -> Tensor:
    return torch.stack([c.weight(term) * value[term] for term in TERMS]).sum()


def gradients(scalar: Tensor, params: Parameters) -> Parameters:
    """d scalar / d parameter, zeros where the scalar does not depend on one. No selection bias."""
    names = [name for name in params if not is_bias(name)]
    if not scalar.requires_grad:
        return {name: torch.zeros_like(params[name]) for name in names}
    grads = torch.autograd.grad(
        scalar, [params[name] for name in names], retain_graph=True, materialize_grads=True
    )
    return dict(zip(names, grads, strict=True))


def with_gradients(params: Parameters) -> Parameters:
    """Leaves of a graph in float64; selection biases take no part in it."""
    return {
        name: value.detach().to(torch.float64).requires_grad_(not is_bias(name))
        for name, value in params.items()
    }


# Optimizer


def learning_rate(c: Config, step: int) -> float:
    warmup = max(c.warmup_steps, 1)
    if step < warmup:
        return c.lr * (step + 1) / warmup
    u = (step - (warmup - 1)) / (c.total_steps - 1 - (warmup - 1))
    return c.min_lr + (c.lr - c.min_lr) * (1 + math.cos(math.pi * u)) / 2


def trajectory(
    c: Config, params: Parameters, tokens_bs: Tensor, targets_bs: Tensor
) -> tuple[list[Step], Parameters]:
    """`total_steps` steps of AdamW, all on this batch. Returns what each step measured before its
    update, and the parameters after the last one."""
    params = with_gradients(params)
    first = {name: torch.zeros_like(value) for name, value in params.items()}
    second = {name: torch.zeros_like(value) for name, value in params.items()}
    steps: list[Step] = []
    for i in range(c.total_steps):
        out = forward(c, params, tokens_bs)
        value = terms(c, out, targets_bs)
        loss = total(c, value)
        grads = gradients(loss, params)
        norm = torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt().item()
        lr = learning_rate(c, i)
        steps.append(Step(loss.item(), value["ce"].item(), lr, norm, out))
        clip = c.clip_norm / norm if norm > c.clip_norm else 1.0
        for name, grad in grads.items():
            grad = grad * clip
            first[name] = c.beta1 * first[name] + (1 - c.beta1) * grad
            second[name] = c.beta2 * second[name] + (1 - c.beta2) * grad.square()
            mean = first[name] / (1 - c.beta1 ** (i + 1))
            variance = second[name] / (1 - c.beta2 ** (i + 1))
            weight = params[name].detach()
            decay = c.weight_decay if weight.dim() == 2 else 0.0
            params[name] = weight - lr * (mean / (variance.sqrt() + c.adam_eps) + decay * weight)
        params = with_gradients(update_biases(c, params, out))
    return steps, {name: value.detach() for name, value in params.items()}


def update_biases(c: Config, params: Parameters, out: Forward) -> Parameters:
    """b_e + u sign(mean c - c_e), with the counts of the step that was just taken."""
    updated = dict(params)
    if c.bias_rate > 0:
        for layer, counts_e in zip(c.moe_layers, counts(c, out), strict=True):
            name = f"layers.{layer}.moe.router.bias"
            excess_e = counts_e.to(torch.float64).mean() - counts_e
            updated[name] = params[name] + c.bias_rate * excess_e.sign()
    return updated


def counts(c: Config, out: Forward) -> Tensor:
    """[MoE layers, E]: how many tokens of the batch selected each expert."""
    return torch.stack(
        [torch.bincount(r.selected_tk.flatten(), minlength=c.num_experts) for r in out.routing]
    )


def check_parameters(c: Config, params: Parameters) -> str | None:
    """What is wrong with names or shapes, or None."""
    expected = parameter_shapes(c)
    for name in sorted(expected.keys() | params.keys()):
        if name not in params:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not a parameter of this config"
        if tuple(params[name].shape) != expected[name]:
            return f"{name} is {list(params[name].shape)}, must be {list(expected[name])}"
    return None
