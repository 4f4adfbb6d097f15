#!/usr/bin/env python3
"""Makes a reference file of a case.

    make_case.py CASE.json OUT.safetensors [--tries N]

CASE is JSON, or YAML where PyYAML is installed. README.md lists its keys, and cases/ has examples.
Parameters and tokens come from the seed; the parameters are rounded to F32, and everything after
that is float64. A case in which a choice of experts is nearly tied is refused; --tries lets the
program go on to the next seeds until one has no near tie. It prints the seed and the gaps.
"""

import argparse
import json
import math
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import case_file
import oracle
import selection_gaps
from case_config import TERMS, CaseError, Config, config_from_json, is_bias, parameter_shapes


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the random parameters; norms are around 1, selection biases around
    `bias_mean`. They are large, so that no part of the model is negligible."""

    embedding: float = 0.25
    linear: float = 0.15
    norm: float = 0.15
    router: float = 0.35
    bias: float = 0.05
    bias_mean: float = 0.0


@dataclass(frozen=True)
class CaseText:
    """What a case's text says."""

    name: str
    isolates: str
    config: Config
    sequence_length: int
    seed: int
    ignored_targets: list[tuple[int, int]]  # [sequence, position]
    termgrad: list[str]  # terms whose own gradients are stored
    spread: Spread
    gap_factor: float  # times the usual smallest gaps


def read_text(path: Path) -> CaseText:
    values = _load(path)
    keys = {field.name for field in fields(CaseText)}
    unknown = values.keys() - keys
    if unknown:
        raise CaseError(f"{path}: unknown keys {', '.join(sorted(unknown))}")
    config = config_from_json(_expect(path, values, "config", dict, {}), str(path), complete=False)
    length = _expect(path, values, "sequence_length", int, 8)
    ignored = _expect(path, values, "ignored_targets", list, [])
    for place in ignored:
        pair = isinstance(place, list) and [type(number) for number in place] == [int, int]
        if not (pair and 0 <= place[0] < config.sequences and 0 <= place[1] < length):
            raise CaseError(f"{path}: ignored_targets has {place}, no [sequence, position]")
    default_terms = [term for term in TERMS[1:] if config.weight(term) != 0]
    termgrad = _expect(path, values, "termgrad", list, default_terms)
    for term in termgrad:
        if term not in TERMS:
            raise CaseError(f"{path}: termgrad has {term!r}; terms are {', '.join(TERMS)}")
    spread = _expect(path, values, "spread", dict, {})
    for key, value in spread.items():
        if key not in Spread.__dataclass_fields__ or type(value) not in (int, float):
            raise CaseError(f"{path}: spread has {key}: {value!r}, which it cannot use")
    factor = _expect(path, values, "gap_factor", float, 1.0)
    if length < 1 or not factor >= 0:
        raise CaseError(f"{path}: sequence_length must be above 0, and gap_factor not below 0")
    return CaseText(
        name=_expect(path, values, "name", str, path.stem),
        isolates=_expect(path, values, "isolates", str, ""),
        config=config,
        sequence_length=length,
        seed=_expect(path, values, "seed", int, 0),
        ignored_targets=[(place[0], place[1]) for place in ignored],
        termgrad=termgrad,
        spread=Spread(**spread),
        gap_factor=factor,
    )


def draw(text: CaseText, seed: int) -> case_file.Case:
    """The inputs of the case that a seed gives."""
    c = text.config
    generator = torch.Generator().manual_seed(seed)
    params = {
        name: _random_parameter(name, shape, text.spread, generator)
        for name, shape in parameter_shapes(c).items()
    }
    size = (c.sequences, text.sequence_length + 1)
    stream = torch.randint(c.vocab_size, size, generator=generator, dtype=torch.int32)
    targets = stream[:, 1:].clone()
    for sequence, position in text.ignored_targets:
        targets[sequence, position] = -1
    return case_file.Case(text.name, text.isolates, c, params, stream[:, :-1].contiguous(), targets)


def near_ties_at_first(text: CaseText, case: case_file.Case) -> list[str]:
    """The cheap half of the check: one forward pass."""
    with torch.no_grad():
        out = oracle.forward(text.config, oracle.with_gradients(case.params), case.tokens_bs)
    initial = selection_gaps.gaps(text.config, out)
    return selection_gaps.near_ties(initial, [], _kinds(text), text.gap_factor)


def make(text: CaseText, tries: int) -> tuple[int, case_file.Case, case_file.Results]:
    """Seed, inputs and results of the first seed without a near tie."""
    ties: list[str] = []
    for seed in range(text.seed, text.seed + tries):
        case = draw(text, seed)
        ties = near_ties_at_first(text, case)
        if ties:
            continue
        results = case_file.compute(case, case_file.term_gradient_names(text.config, text.termgrad))
        ties = selection_gaps.near_ties(*_gaps(text.config, results), _kinds(text), text.gap_factor)
        if not ties:
            return seed, case, results
    raise CaseError(
        f"{text.name}: a choice of experts is nearly tied at seed {text.seed + tries - 1}"
        f" ({'; '.join(ties)}); give another seed, more --tries, or fewer tokens"
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case", type=Path, help="the case, JSON or YAML")
    parser.add_argument("out", type=Path, help="the reference file to write")
    parser.add_argument("--tries", type=int, default=1, help="how many seeds to try (default 1)")
    given = parser.parse_args(arguments)
    if given.tries < 1:
        parser.error("--tries must be above 0")
    torch.set_num_threads(1)
    try:
        text = read_text(given.case)
        seed, case, results = make(text, given.tries)
        case_file.write_case(given.out, case, results)
    except (CaseError, OSError) as error:
        print(f"make_case: error: {error}", file=sys.stderr)
        return 1
    initial, trajectory = _gaps(text.config, results)
    print(f"{given.out}: seed {seed}, smallest gaps (at first, along the trajectory):")
    for kind, gap in initial.items():
        if math.isfinite(gap):
            print(f"  {kind:7} {gap:.1e}  {min(step[kind] for step in trajectory):.1e}")
    return 0


def _gaps(c: Config, results: case_file.Results) -> tuple[dict[str, float], list[dict[str, float]]]:
    """At the initial parameters, and at each step of the trajectory."""
    trajectory = [selection_gaps.gaps(c, step.forward) for step in results.steps]
    return trajectory[0], trajectory


def _kinds(text: CaseText) -> set[str]:
    """The kinds of choices that the case's numbers depend on."""
    cp_has_gradient = text.config.cp_weight != 0 or "cp" in text.termgrad
    return {kind for kind in selection_gaps.LIMITS if cp_has_gradient or not kind.startswith("cp")}


def _random_parameter(
    name: str, shape: tuple[int, ...], spread: Spread, generator: torch.Generator
) -> Tensor:
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if is_bias(name):
        value = spread.bias_mean + spread.bias * normal
    elif name.endswith("norm.weight"):
        value = 1 + spread.norm * normal
    elif name.endswith("router.weight"):
        value = spread.router * normal
    else:
        value = (spread.embedding if name.startswith("embed") else spread.linear) * normal
    return value.to(torch.float32)


def _expect(path: Path, values: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = values.get(key, default)
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:
        raise CaseError(f"{path}: {key} is {value!r}, but must be {kind.__name__}")
    return value


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = _load_yaml(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise CaseError(f"{path}: a case is a set of keys and values")
    return values


def _load_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise CaseError("PyYAML is not installed; write the case as JSON") from None

    class Loader(yaml.SafeLoader):
        """Reads 1e-3 as a number; YAML 1.1, which PyYAML speaks, wants 1.0e-3."""

    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)  # noqa: S506, a SafeLoader
    except yaml.YAMLError as error:
        raise CaseError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
