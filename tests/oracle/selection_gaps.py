"""How near the choices of experts are to a tie.

A reference file must not depend on rounding: where two experts are nearly tied at the edge of a
top-K set, a program in fp32 may rightly choose the other one, and every number after it differs.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

import oracle
import strand_terms
from case_config import Config


@dataclass(frozen=True)
class Limit:
    """The smallest gap allowed, at the initial parameters and along the trajectory."""

    initial: float
    trajectory: float


LIMITS = {
    "edge": Limit(2e-3, 3e-4),  # score + bias, last expert chosen - first one not chosen
    "order": Limit(5e-4, 0.0),  # between neighbours in the set: out.selected is in order
    "group": Limit(2e-3, 3e-4),  # score of the last group kept - that of the first one dropped
    "cp": Limit(2e-3, 3e-4),  # p at the edge of cp's upper set, token form
    "cp_row": Limit(1e-3, 2e-4),  # same, batch form, relative to the row's largest entry
}


def gaps(c: Config, out: oracle.Forward) -> dict[str, float]:
    """The smallest gap of each kind in one forward pass; infinite where there is nothing to choose.

    cp's kinds are always measured. They matter only where cp's gradient does: cp's value does not
    jump at a tie.
    """
    found: dict[str, list[Tensor]] = {kind: [] for kind in LIMITS}
    for layer in out.routing:
        choices = oracle.kept_choices(c, layer.choice_te)
        found["edge"].append(edge_gap(choices, c.top_k))
        found["order"].append(order_gap(choices, c.top_k))
        if c.groups > 1:
            scores = oracle.group_scores(c, layer.choice_te)
            found["group"].append(edge_gap(scores, c.groups_kept))
    for lower, upper in pairwise(out.routing):
        found["cp"].append(edge_gap(upper.p_te, c.top_k))
        selected = lower.selected_tk if c.cp_sources == "activated" else None
        micro_step = lower.p_te.shape[0] // len(c.micro_batches)
        for start in range(0, lower.p_te.shape[0], micro_step):
            part = slice(start, start + micro_step)
            rows = strand_terms.cp_batch_matrix(
                lower.p_te[part], upper.p_te[part], None if selected is None else selected[part]
            )
            rows = rows[rows.amax(dim=1) > 0]  # the row of an idle expert is zeros: no gradient
            if len(rows):
                found["cp_row"].append(edge_gap(rows / rows.amax(dim=1, keepdim=True), c.top_k))
    unused = "cp_row" if c.cp_paths == "token" else "cp"
    found[unused] = []
    return {kind: min((g.item() for g in each), default=torch.inf) for kind, each in found.items()}


def edge_gap(values: Tensor, k: int) -> Tensor:
    """The smallest difference between the k-th and the next largest of a row."""
    if k >= values.shape[-1]:
        return torch.tensor(torch.inf)
    ordered = values.detach().sort(dim=-1, descending=True).values
    return (ordered[..., k - 1] - ordered[..., k]).min()


def order_gap(values: Tensor, k: int) -> Tensor:
    """The smallest difference between neighbours among the k largest of a row."""
    if k < 2:
        return torch.tensor(torch.inf)
    ordered = values.detach().sort(dim=-1, descending=True).values[..., :k]
    return (ordered[..., :-1] - ordered[..., 1:]).min()


def near_ties(
    initial: dict[str, float], trajectory: list[dict[str, float]], kinds: set[str], factor: float
) -> list[str]:
    """A phrase for each kind in `kinds` whose gap is below `factor` times its limit."""
    found = []
    for kind in LIMITS:
        if kind not in kinds:
            continue
        limit = LIMITS[kind]
        later = min((gap[kind] for gap in trajectory), default=torch.inf)
        if initial[kind] < factor * limit.initial:
            found.append(
                f"{kind} gap {initial[kind]:.1e} at first, needed {factor * limit.initial:.0e}"
            )
        if later < factor * limit.trajectory:
            found.append(f"{kind} gap {later:.1e} later, needed {factor * limit.trajectory:.0e}")
    return found
