#!/usr/bin/env python3
"""Draws a run from its log.jsonl: cross-entropy and validation perplexity, router terms, balance of the experts.

    scripts/plot_run.py RUN_DIRECTORY OUT.svg

Needs matplotlib: python3 -m venv venv && venv/bin/pip install matplotlib
"""
import json
import pathlib
import sys

try:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt
except ImportError as error:
    sys.exit(f"{__doc__}\nplot_run.py: error: {error}")

BLUE, ORANGE, GREEN, GREY = "#2f6fab", "#d9762b", "#3a8f5a", "#777777"


def read_rows(run):
    """The rows of the log. Lines that are no rows (a row that was cut off, a foreign line) are left out."""
    rows = []
    with open(pathlib.Path(run) / "log.jsonl", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
    return rows


def series(rows, key):
    """Steps and values of the rows that have `key`."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return [step for step, _ in found], [value for _, value in found]


def draw_losses(axis, rows):
    axis.plot(*series(rows, "ce"), color=BLUE, linewidth=1, label="training cross-entropy")
    axis.plot(*series(rows, "val_loss"), "o-", color=ORANGE, markersize=3.5, label="validation cross-entropy")
    for row in rows:
        if "val_perplexity" in row:
            last = row
    axis.annotate(f"perplexity {last['val_perplexity']:.0f}", (last["step"], last["val_loss"]), color=ORANGE,
                  xytext=(0, -14), textcoords="offset points", ha="right")
    axis.margins(y=0.1)
    axis.set_ylabel("nats a token")
    axis.legend(frameon=False)


def draw_terms(axis, rows, layers):
    steps, balance = series(rows, "lb")
    axis.plot(steps, [value / layers for value in balance], color=BLUE, label="lb, a layer (1 = even)")
    steps, coupling = series(rows, "cp")
    axis.plot(steps, [-value / (layers - 1) for value in coupling], color=ORANGE, label="−cp, a pair of layers")
    steps, alike = series(rows, "sp")
    axis.plot(steps, [value / layers for value in alike], color=GREEN, label="sp, a layer (0 = orthogonal)")
    axis.set_ylabel("unweighted term")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.6))


def draw_balance(axis, rows):
    """Every expert's share of its layer's tokens; all lines at 1/E would be perfect balance."""
    logged = [row for row in rows if "expert_load" in row]
    experts = len(logged[0]["expert_load"][0])
    for layer in range(len(logged[0]["expert_load"])):
        for expert in range(experts):
            axis.plot([row["step"] for row in logged], [100 * row["expert_load"][layer][expert] for row in logged],
                      color=GREY, linewidth=0.6, alpha=0.8)
    axis.axhline(100 / experts, color=ORANGE, linewidth=1.2, label=f"an even share, 1/{experts}")
    axis.set_ylabel("% of a layer's tokens, each expert")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)


def main(run, out):
    rows = read_rows(run)
    layers = len(next(row for row in rows if "expert_load" in row)["expert_load"])
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "strand",
                         "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained")
    draw_losses(axes[0], rows)
    draw_terms(axes[1], rows, layers)
    draw_balance(axes[2], rows)
    for axis in axes:
        axis.set_xlabel("step")
    figure.savefig(out, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
