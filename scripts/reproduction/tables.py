"""Tables and numbers of the page, and of the results that it is made of."""
import math


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def decimals(x, digits):
    """Of a number that so many digits would show as zero, as many as show its first one."""
    while x != 0 and float(f"{x:.{digits}f}") == 0:
        digits += 1
    return digits


def number(x, digits=4):
    return "–" if x is None or not math.isfinite(x) else f"{x:+.{decimals(x, digits)}f}".replace("-", "−")


def plain(x, digits=4):
    return "–" if x is None or not math.isfinite(x) else f"{x:.{decimals(x, digits)}f}".replace("-", "−")


def rounded(x):
    """For results: eight digits are more than a run repeats on another processor."""
    return float(f"{x:.8g}")
