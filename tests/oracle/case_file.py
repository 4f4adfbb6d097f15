"""A reference file: reading and writing it, computing its contents, comparing it with them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import oracle
from case_config import TERMS, CaseError, Config, config_from_json, config_to_json

# Relative to the largest magnitude of a stored tensor; for `traj.param`, to its movement. They are
# those that docs and `strand verify` state for a build in double precision.
TOLERANCES = {"out": 1e-6, "grad": 1e-6, "traj": 1e-6, "movement": 1e-4}
ZERO = 1e-7  # a tensor whose largest magnitude is below this is exact zeros,
ZERO_TOLERANCE = 1e-6  # and its values must stay below this


@dataclass
class Case:
    """The inputs of a reference file."""

    name: str
    isolates: str  # what the case is about
    config: Config
    params: oracle.Parameters
    tokens_bs: Tensor
    targets_bs: Tensor  # -1: ignored

    def __post_init__(self) -> None:
        c = self.config
        shape = tuple(self.tokens_bs.shape)
        if self.tokens_bs.dim() != 2 or shape[0] != c.sequences or shape[1] == 0:
            raise CaseError(
                f"{self.name}: input.tokens is {list(shape)}, but the config has"
                f" {c.sequences} sequences"
            )
        if self.targets_bs.shape != self.tokens_bs.shape:
            raise CaseError(f"{self.name}: input.targets has another shape than input.tokens")
        if self.tokens_bs.min() < 0 or self.tokens_bs.max() >= c.vocab_size:
            raise CaseError(f"{self.name}: a token is outside the vocabulary")
        if self.targets_bs.min() < -1 or self.targets_bs.max() >= c.vocab_size:
            raise CaseError(f"{self.name}: a target is neither in the vocabulary nor -1")
        problem = oracle.check_parameters(c, self.params)
        if problem:
            raise CaseError(f"{self.name}: {problem}")


@dataclass
class Results:
    """Everything that a reference file stores about its case, by name, in full precision."""

    tensors: dict[str, Tensor]
    steps: list[oracle.Step]  # of the trajectory


@dataclass
class Report:
    """The largest error of each group of tensors, and what is wrong."""

    errors: dict[str, float] = field(default_factory=dict)  # group of TOLERANCES -> error
    problems: list[str] = field(default_factory=list)


def read_case(path: Path) -> tuple[Case, dict[str, Tensor]]:
    """The inputs of a file, and all tensors stored in it."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}
        config = json.loads(metadata["config"])
    except (OSError, SafetensorError) as error:
        raise CaseError(f"{path}: {error}") from None
    except (KeyError, json.JSONDecodeError):
        raise CaseError(
            f"{path}: its metadata has no 'config' in JSON; no reference file"
        ) from None
    for name in ("input.tokens", "input.targets"):
        if name not in stored or stored[name].dtype != torch.int32:
            raise CaseError(f"{path}: {name} is missing or not I32")
    case = Case(
        name=metadata.get("case", path.stem),
        isolates=metadata.get("isolates", ""),
        config=config_from_json(config, str(path), complete=True),
        params=_without_prefix(stored, "param."),
        tokens_bs=stored["input.tokens"],
        targets_bs=stored["input.targets"],
    )
    return case, stored


def write_case(path: Path, case: Case, results: Results) -> None:
    """Floats are rounded to F32, integers stored as I32."""
    tensors = {f"param.{name}": value for name, value in case.params.items()}
    tensors |= results.tensors
    tensors |= {"input.tokens": case.tokens_bs, "input.targets": case.targets_bs}
    stored = {
        name: value.detach()
        .to(torch.float32 if value.is_floating_point() else torch.int32)
        .contiguous()
        for name, value in tensors.items()
    }
    metadata = {
        "format": "pt",
        "case": case.name,
        "isolates": case.isolates,
        "config": config_to_json(case.config),
    }
    save_file(stored, path, metadata)


def compute(case: Case, termgrad_names: Iterable[str]) -> Results:
    """All results of a case. `termgrad_names`: which termgrad.<term>.<parameter> to compute."""
    c = case.config
    params = oracle.with_gradients(case.params)
    out = oracle.forward(c, params, case.tokens_bs)
    value = oracle.terms(c, out, case.targets_bs)
    loss = oracle.total(c, value)

    tensors = {"out.logits": out.logits_bsv, "out.loss": loss.reshape(1)}
    for term in TERMS:
        tensors[f"out.term.{term}"] = value[term].reshape(1)
    tensors["out.counts"] = oracle.counts(c, out)
    tensors["out.router_logits"] = torch.stack([r.logits_te for r in out.routing])
    tensors["out.selected"] = torch.stack([r.selected_tk for r in out.routing])
    for name, grad in oracle.gradients(loss, params).items():
        tensors[f"grad.{name}"] = grad
    of_term: dict[str, oracle.Parameters] = {}
    for name in termgrad_names:
        term, parameter = name.removeprefix("termgrad.").split(".", 1)
        if term not in of_term:
            if term not in TERMS:
                raise CaseError(f"{case.name}: {name} is of no known term")
            of_term[term] = oracle.gradients(value[term], params)
        if parameter not in of_term[term]:
            raise CaseError(f"{case.name}: {name} is of no parameter that has a gradient")
        tensors[name] = of_term[term][parameter]

    steps, last = oracle.trajectory(c, case.params, case.tokens_bs, case.targets_bs)
    for quantity in ("loss", "ce", "lr", "grad_norm"):
        values = [getattr(step, quantity) for step in steps]
        tensors[f"traj.{quantity}"] = torch.tensor(values, dtype=torch.float64)
    tensors |= {f"traj.param.{name}": value for name, value in last.items()}
    return Results({name: value.detach() for name, value in tensors.items()}, steps)


def term_gradient_names(c: Config, chosen_terms: Iterable[str]) -> list[str]:
    """What files store by custom: the routers and expert 0 of every MoE layer."""
    parts = ["router.weight"] + [f"experts.0.{name}_proj.weight" for name in ("gate", "up", "down")]
    return [
        f"termgrad.{term}.layers.{layer}.moe.{part}"
        for term in chosen_terms
        for layer in c.moe_layers
        for part in parts
    ]


def check(path: Path) -> Report:
    """Computes again what a file stores, and compares every tensor."""
    case, stored = read_case(path)
    got = compute(case, [name for name in stored if name.startswith("termgrad.")]).tensors
    return compare(case, stored, got)


def compare(case: Case, stored: dict[str, Tensor], got: dict[str, Tensor]) -> Report:
    report = Report()
    results = {n for n in stored if not n.startswith(("param.", "input."))}
    for name in sorted(results - got.keys()):
        report.problems.append(f"{name} is no tensor of such a file")
    for name in sorted(got.keys() - results):
        # Files that are older than a term lack it.
        if not (name == "out.term.entropy" and case.config.entropy_weight == 0):
            report.problems.append(f"{name} is missing")
    for name in sorted(results & got.keys()):
        want, value = stored[name], got[name]
        if want.shape != value.shape:
            report.problems.append(f"{name} is {list(want.shape)}, must be {list(value.shape)}")
        elif want.dtype != (torch.float32 if value.is_floating_point() else torch.int32):
            report.problems.append(f"{name} is stored as {want.dtype}")
        elif not value.is_floating_point():
            differ = int((want != value).sum())
            if differ:
                report.problems.append(f"{name} differs in {differ} of {want.numel()} integers")
        else:
            initial = case.params.get(name.removeprefix("traj.param."))
            group, error, tolerance = _error(name, value, want.to(torch.float64), initial)
            report.errors[group] = max(report.errors.get(group, 0.0), error)
            if not error <= tolerance:  # also where it is not a number
                report.problems.append(f"{name} is off by {error:.1e}, allowed {tolerance:.0e}")
    return report


def _error(
    name: str, got: Tensor, want: Tensor, initial: Tensor | None
) -> tuple[str, float, float]:
    """Group of the tensor, its error and what is allowed."""
    if name.startswith("traj.param.") and initial is not None:
        moved = (want - initial.to(torch.float64)).norm().item()
        off = (got - want).norm().item()
        if moved >= ZERO:
            return "movement", off / moved, TOLERANCES["movement"]
        return "movement", off, ZERO_TOLERANCE
    group = "grad" if name.startswith(("grad.", "termgrad.")) else name.split(".")[0]
    largest = want.abs().max().item()
    if largest < ZERO:
        return group, got.abs().max().item(), ZERO_TOLERANCE
    return group, ((got - want).abs().max() / largest).item(), TOLERANCES[group]


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
