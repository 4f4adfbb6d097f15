#!/usr/bin/env python3
"""Computes the contents of reference files again and compares every tensor with what is stored.

    check.py FILE...

One line a file, with the largest error of outputs, gradients, the trajectory's scalars and the
parameters after it. Exit 1 when a file differs or cannot be read.
"""

import sys
from pathlib import Path

import torch

from case_config import CaseError
from case_file import TOLERANCES, check


def main(paths: list[str]) -> int:
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if paths else 2
    torch.set_num_threads(1)
    failed = 0
    for path in paths:
        try:
            report = check(Path(path))
        except CaseError as error:
            print(f"FAIL  {error}")
            failed += 1
            continue
        errors = "  ".join(f"{group} {report.errors.get(group, 0.0):.1e}" for group in TOLERANCES)
        problems = (
            f"  {len(report.problems)} wrong, first: {report.problems[0]}"
            if report.problems
            else ""
        )
        print(f"{'FAIL' if report.problems else 'ok  '}  {Path(path).stem:32}  {errors}{problems}")
        failed += bool(report.problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
