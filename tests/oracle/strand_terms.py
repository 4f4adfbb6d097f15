"""strand's loss terms as functions on PyTorch tensors, for use in any trainer.

This file needs torch and nothing else: copy it. docs/losses-in-pytorch.md shows how to use it, and
docs/mathematics.md defines the terms. Each function computes one term of one layer (cp: of one pair
of layers), without its weight, and returns a scalar tensor that autograd can differentiate.

Letters in names and docstrings give shapes: T tokens, E experts of the layer, K experts of a token,
F inner width of an expert, D width of the model. `logits_te` is a tensor [T, E]. Every function
takes any floating-point type on any device and computes in float32 at least, under autocast too.

Tokens are averaged with equal weight. To leave out padding, or to use a sample of the tokens, index
all arguments with the same rows first.
"""

import torch
from torch import Tensor

NORM_FLOOR = 1e-12  # a vector with a smaller norm has cosine 0 with every other, and no gradient
O_EPSILON = 1e-9  # in the denominator of o's projection


def router_probabilities(logits_te: Tensor, score: str) -> Tensor:
    """p [T, E], the distribution over the experts that lb, cp, v and entropy see.

    score "softmax": p = softmax(q).
    score "sigmoid": s = 1 / (1 + e^-q) and p = s / sum_j s_j.
    """
    logits_te = _at_least_float32(logits_te)
    if score == "softmax":
        return torch.softmax(logits_te, dim=-1)
    if score == "sigmoid":
        s_te = torch.sigmoid(logits_te)
        return s_te / s_te.sum(dim=-1, keepdim=True)
    raise ValueError(f"score is {score!r}; it must be 'softmax' or 'sigmoid'")


def largest(values: Tensor, k: int) -> Tensor:
    """Indices [..., k] of the k largest along the last dimension, in descending order.

    Among equal values the lower index comes first, which torch.topk does not promise.
    """
    return values.detach().sort(dim=-1, descending=True, stable=True).indices[..., :k]


def rows_by_token(rows_rf: Tensor, token_of_row_r: Tensor, tokens: int) -> Tensor:
    """Rows [T*K, F] in the order of the experts -> [T, K, F], the K rows of each token together.

    `token_of_row_r` [T*K] is the token that each row belongs to. Every token must have the same
    number of rows: take padding rows out first. A trainer that drops tokens cannot use this. On a
    GPU only the total is checked, because the rest of the check would wait for the device.
    sp and o do not depend on the order of a token's rows.
    """
    rows = token_of_row_r.shape[0]
    wrong = rows != rows_rf.shape[0] or rows % tokens != 0
    if not wrong and token_of_row_r.device.type == "cpu":
        rows_of_token_t = torch.bincount(token_of_row_r, minlength=tokens)
        wrong = bool((rows_of_token_t != rows // tokens).any())
    if wrong:
        raise ValueError(
            f"{rows_rf.shape[0]} rows with {rows} token indices are not the same number of rows"
            f" for each of {tokens} tokens"
        )
    return rows_rf[token_of_row_r.argsort(stable=True)].unflatten(0, (tokens, -1))


def sp(z_tkf: Tensor) -> Tensor:
    """Specialization (Hu et al., Eq. 4): mean_t sum_{e != n in A_t} cos^2(z_te, z_tn).

    The sum is over ordered pairs of the K experts A_t that token t selected.
    `z_tkf` [T, K, F]: their inner activations silu(gate) * up. A positive factor on a row, such as
    the routing weight, does not change the term, and no gradient reaches the factor.
    """
    z_tkf = _at_least_float32(z_tkf)
    return sp_from_products(_matmul(z_tkf, z_tkf.transpose(-1, -2)))


def sp_from_products(products_tkk: Tensor) -> Tensor:
    """`sp` from the inner products <z_te, z_tn> [T, K, K], whose diagonal is the squared norms.

    For a trainer that splits F over ranks: each rank computes the products of its slice, and a
    differentiable sum over the ranks adds them.
    """
    products_tkk = _at_least_float32(products_tkk)
    norm2_tk = products_tkk.diagonal(dim1=-2, dim2=-1)
    alive_tk = norm2_tk >= NORM_FLOOR**2
    # The inner `where` keeps 0 out of the square root: its gradient there would be NaN.
    inverse_norm_tk = torch.where(alive_tk, norm2_tk, 1).rsqrt() * alive_tk
    cos_tkk = products_tkk * inverse_norm_tk.unsqueeze(-1) * inverse_norm_tk.unsqueeze(-2)
    return _mean_over_pairs(cos_tkk.square())


def o(y_tkd: Tensor) -> Tensor:
    """Orthogonality (Guo et al., Eq. 6):
    mean_t sum_{e != n in A_t} || <y_e, y_n> / (<y_n, y_n> + 1e-9) y_n ||^2.

    `y_tkd` [T, K, D]: the outputs of the K experts that token t selected, before the routing
    weight. Unlike sp, o changes when the rows are scaled.
    """
    y_tkd = _at_least_float32(y_tkd)
    products_tkk = _matmul(y_tkd, y_tkd.transpose(-1, -2))
    norm2_t1k = products_tkk.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
    factor_tkk = products_tkk / (norm2_t1k + O_EPSILON)
    return _mean_over_pairs(factor_tkk.square() * norm2_t1k)


def lb(p_te: Tensor, selected_tk: Tensor, counts_e: Tensor | None = None) -> Tensor:
    """Load balance: E / (K T) sum_e c_e P_e.

    c_e = number of tokens that selected e, without gradient; P_e = mean_t p_te.
    `selected_tk` [T, K]: the selected experts. [T, E] with [T, K] takes the statistics over all
    tokens; [B, S, E] with [B, S, K] takes them by sequence and returns the mean of the B losses.
    `counts_e` [E]: c averaged over ranks, when the statistics span ranks. The mean of the results
    over the ranks is then the term of all tokens together.
    """
    p_te = _at_least_float32(p_te)
    tokens, experts = p_te.shape[-2:]
    if counts_e is None:
        counts_e = selection_counts(selected_tk, experts)
    scale = experts / (selected_tk.shape[-1] * tokens)
    return scale * (counts_e.detach() * p_te.mean(dim=-2)).sum(dim=-1).mean()


def selection_counts(selected_tk: Tensor, experts: int) -> Tensor:
    """c [..., E] of [..., T, K]: the number of tokens that selected each expert, as float32."""
    shape = (*selected_tk.shape[:-1], experts)
    return _mask(selected_tk, torch.zeros(shape, device=selected_tk.device)).sum(dim=-2)


def v(p_te: Tensor, mean_e: Tensor | None = None) -> Tensor:
    """Variance (Guo et al., Eq. 7): -mean_t 1/E sum_e (p_te - P_e)^2, P_e = mean_t p_te.

    The gradient through P_e is exactly zero. [B, S, E] takes P by sequence, as in `lb`.
    `mean_e` [E]: P averaged over ranks, when the statistics span ranks.
    """
    p_te = _at_least_float32(p_te)
    mean_e = p_te.mean(dim=-2, keepdim=True) if mean_e is None else mean_e
    return -(p_te - mean_e.detach()).square().mean()


def z(logits_te: Tensor) -> Tensor:
    """Router z-loss (Zoph et al.): mean_t (ln sum_e e^q_te)^2."""
    return torch.logsumexp(_at_least_float32(logits_te), dim=-1).square().mean()


def entropy(p_te: Tensor) -> Tensor:
    """Entropy of the router, in nats: mean_t -sum_e p_te ln p_te.

    A p of 0 adds 0 and has no gradient.
    """
    p_te = _at_least_float32(p_te)
    return -(p_te * torch.where(p_te > 0, p_te, 1).log()).sum(dim=-1).mean()


def cp_token(
    lower_p_te: Tensor, upper_p_te: Tensor, k: int, lower_selected_tk: Tensor | None = None
) -> Tensor:
    """Coupling (Hu et al., Eq. 7), token form: -mean_t sum_{e in S_t} sum_{n in U_t} p_te p'_tn.

    p and p' are of two neighbouring MoE layers. U_t: the k largest p'_t, without selection bias;
    k = number of experts of a token in the upper layer. S_t: all experts of the lower layer, or
    only those of `lower_selected_tk` [T, K] where it is given.
    """
    lower_te, upper_te = _sources(lower_p_te, lower_selected_tk), _at_least_float32(upper_p_te)
    mass_t = upper_te.gather(-1, largest(upper_te, k)).sum(dim=-1)
    return -(lower_te.sum(dim=-1) * mass_t).mean()


def cp_batch(
    lower_p_te: Tensor,
    upper_p_te: Tensor,
    k: int,
    lower_selected_tk: Tensor | None = None,
    mean_en: Tensor | None = None,
) -> Tensor:
    """Coupling, batch form: -sum_e sum_{n in U_e} P_en, P_en = mean_t p_te p'_tn.

    The mean is over the tokens of a micro-step. U_e: the k largest of row e of P. With
    `lower_selected_tk` [T, K], p_te counts only where token t selected e.
    `mean_en` [E, E']: P averaged over ranks (see `cp_batch_matrix`), when the micro-step spans
    ranks. It only chooses U_e; the mean of the results over the ranks is then the term of all
    tokens together.
    """
    matrix_en = cp_batch_matrix(lower_p_te, upper_p_te, lower_selected_tk)
    chosen_ek = largest(matrix_en if mean_en is None else mean_en, k)
    return -matrix_en.gather(-1, chosen_ek).sum()


def cp_batch_matrix(
    lower_p_te: Tensor, upper_p_te: Tensor, lower_selected_tk: Tensor | None = None
) -> Tensor:
    """P [E, E'] of `cp_batch`: mean_t p_te p'_tn."""
    lower_te, upper_tn = _sources(lower_p_te, lower_selected_tk), _at_least_float32(upper_p_te)
    return _matmul(lower_te.transpose(0, 1), upper_tn) / lower_te.shape[0]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in their own type: autocast would round both to bf16."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def _mean_over_pairs(value_tkk: Tensor) -> Tensor:
    """The sum over e != n, then the mean over tokens."""
    other_kk = ~torch.eye(value_tkk.shape[-1], dtype=torch.bool, device=value_tkk.device)
    return torch.where(other_kk, value_tkk, 0).sum(dim=(-2, -1)).mean()


def _mask(selected_tk: Tensor, zeros_te: Tensor) -> Tensor:
    """1 where the token selected the expert, 0 elsewhere."""
    return zeros_te.scatter(-1, selected_tk.long(), 1.0)


def _sources(p_te: Tensor, selected_tk: Tensor | None) -> Tensor:
    """The first factor of cp: p, or p where the token selected the expert and 0 elsewhere."""
    p_te = _at_least_float32(p_te)
    return p_te if selected_tk is None else p_te * _mask(selected_tk, torch.zeros_like(p_te))
