#!/usr/bin/env python3
"""Compares the gradient of every term with central differences, which do not use autograd.

    central_differences.py FILE...

For each parameter, the derivative along one random direction. The error is relative to the larger
of the two derivatives, and to a thousandth of the term's largest one where both are smaller.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

import case_file
import oracle
from case_config import TERMS, CaseError, is_bias

STEP = 1e-3  # along a direction of length 1; the error of the formula is of fourth order
TOLERANCE = 1e-6


def term_values(case: case_file.Case, params: oracle.Parameters) -> Tensor:
    """[terms]: every term, unweighted, without a graph."""
    with torch.no_grad():
        out = oracle.forward(case.config, params, case.tokens_bs)
        value = oracle.terms(case.config, out, case.targets_bs)
    return torch.stack([value[term] for term in TERMS])


def errors(case: case_file.Case) -> dict[str, float]:
    """The largest relative error of each term's gradient; nothing for a term that has none."""
    params = oracle.with_gradients(case.params)
    out = oracle.forward(case.config, params, case.tokens_bs)
    value = oracle.terms(case.config, out, case.targets_bs)
    grads = [oracle.gradients(value[term], params) for term in TERMS]
    plain = {name: tensor.detach() for name, tensor in params.items()}
    generator = torch.Generator().manual_seed(0)

    by_autograd, by_difference = [], []  # one row a parameter, one column a term
    for name in (name for name in plain if not is_bias(name)):
        direction = torch.randn(plain[name].shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        at = {
            n: term_values(case, plain | {name: plain[name] + n * STEP * direction})
            for n in (-2, -1, 1, 2)
        }
        by_difference.append((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * STEP))
        by_autograd.append(torch.stack([(grad[name] * direction).sum() for grad in grads]))
    autograd, difference = torch.stack(by_autograd), torch.stack(by_difference)
    size = torch.maximum(autograd.abs(), difference.abs())
    largest = size.amax(dim=0)
    relative = (autograd - difference).abs() / torch.maximum(size, 1e-3 * largest)
    worst = relative.amax(dim=0)
    return {term: worst[i].item() for i, term in enumerate(TERMS) if largest[i] > TOLERANCE * 1e-3}


def main(paths: list[str]) -> int:
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if paths else 2
    torch.set_num_threads(1)
    failed = False
    for path in paths:
        try:
            found = errors(case_file.read_case(Path(path))[0])
        except CaseError as error:
            print(f"FAIL  {error}")
            failed = True
            continue
        wrong = any(not error <= TOLERANCE for error in found.values())
        failed = failed or wrong
        listed = "  ".join(f"{term} {error:.0e}" for term, error in found.items())
        print(f"{'FAIL' if wrong else 'ok  '}  {Path(path).stem:32}  {listed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
