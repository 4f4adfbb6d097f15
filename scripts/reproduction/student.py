"""Student's t and what follows from it: intervals of means, power of a test. Standard library alone."""
import math
from dataclasses import dataclass


def t_probability(t, df):
    """P(|T| < t) for whole degrees of freedom: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(df))
    cosine, sine = math.cos(theta), math.sin(theta)
    if df == 1:
        return 2 * theta / math.pi
    term = total = cosine if df % 2 else 1.0
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + sine * total) if df % 2 else sine * total


def t_quantile(probability, df):
    """t with P(|T| < t) = probability."""
    low, high = 0.0, 1.0
    while t_probability(high, df) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, df) < probability else (low, middle)
    return (low + high) / 2


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def power_of_paired_test(effect, sd, n, level=0.05):
    """Probability that a two-sided paired t-test of n pairs finds `effect`, where differences have the deviation `sd`.

    T = (Z + d) / sqrt(C / df) with a normal Z, d = effect sqrt(n) / sd and C chi-squared: the integral over
    u = sqrt(C / df) by Simpson's rule.
    """
    df, shift = n - 1, abs(effect) * math.sqrt(n) / sd
    critical = t_quantile(1 - level, df)
    log_scale = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)

    def integrand(u):
        if u <= 0:
            return 0.0
        density = math.exp(log_scale + (df - 1) * math.log(u) - df * u * u / 2)
        return density * (1 - normal_cdf(critical * u - shift) + normal_cdf(-critical * u - shift))

    parts, end = 4000, 1 + 12 / math.sqrt(df)
    width = end / parts
    inner = sum(integrand(i * width) * (4 if i % 2 else 2) for i in range(1, parts))
    return width / 3 * (integrand(0) + inner + integrand(end))


def pairs_for_power(effect, sd, power, least=2, most=1000):
    """The least number of pairs with which the test has this power; `most` where more are needed."""
    for n in range(least, most):
        if power_of_paired_test(effect, sd, n) >= power:
            return n
    return most


def mean(values):
    return math.fsum(values) / len(values)


def deviation(values):
    """With n - 1."""
    middle = mean(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1))


@dataclass
class Interval:
    """Mean of n values with its two-sided interval by Student's t."""
    n: int
    mean: float
    sd: float
    low: float
    high: float


def interval(values, confidence=0.95):
    n, middle = len(values), mean(values)
    if n < 2:
        return Interval(n, middle, math.nan, -math.inf, math.inf)
    sd = deviation(values)
    half = t_quantile(confidence, n - 1) * sd / math.sqrt(n)
    return Interval(n, middle, sd, middle - half, middle + half)


def p_value(values):
    """Two-sided, of a mean of 0."""
    sd = deviation(values)
    if sd == 0:
        return 0.0 if mean(values) else 1.0
    return 1 - t_probability(abs(mean(values)) / sd * math.sqrt(len(values)), len(values) - 1)


def holm(p_values):
    """The p values after Holm's correction for their number, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
