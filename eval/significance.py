"""Is a score better than the standing one, by the challenge's rule?

A record must beat the standing score by 0.005 nats a token at p < 0.01.  From the
losses of several seeds two one-sided tests are made of the null hypothesis "the mean
is not below the standing mean - 0.005":

- one sample: the standing mean is taken as known (Student's t, n - 1 degrees);
- Welch: it is a mean of seeds as well (degrees by Welch and Satterthwaite).

Nats a token compare only under one tokenizer.  If nats and bits have another ratio
than the standing runs have, bits a byte are compared instead, in the standing runs'
nats: val_bpb times their ratio of loss to bpb.

Student's t is the regularised incomplete beta function, here by its continued fraction
(DLMF 8.17.22, evaluated as Lentz does); tests hold it to known values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pgolf_codec.errors import SubmissionError
from pgolf_codec.eval.logs import RunLog

MARGIN_NATS = 0.005
MAX_P = 0.01
_SAME_RATIO = 1e-3
_TINY = 1e-300
_MAX_TERMS = 10_000


@dataclass(frozen=True, slots=True)
class TTest:
    """One test; ``p`` is one-sided."""

    name: str
    t: float
    degrees: float
    p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Two samples of losses in nats, their tests, and whether the rule is met."""

    unit: str
    losses: tuple[float, ...]
    mean: float
    std: float
    """Of the sample, n - 1."""
    standing_mean: float
    n_standing: int
    gain: float
    """Standing mean less mean: nats."""
    margin: float
    tests: tuple[TTest, ...]
    max_p: float

    @property
    def significant(self) -> bool:
        """Whether every test that could be made has p < ``max_p``."""
        return all(test.p < self.max_p for test in self.tests)

    def describe(self) -> str:
        """A few lines for people."""
        lines = [
            f"losses    {', '.join(f'{x:.6f}' for x in self.losses)} ({self.unit})",
            f"mean      {self.mean:.6f}, standard deviation {self.std:.6f}, n {len(self.losses)}",
            f"standing  {self.standing_mean:.6f}, n {self.n_standing}",
            f"gain      {self.gain:+.6f}, of which {self.margin} are demanded",
        ]
        lines += [
            f"{test.name:<9} t {test.t:.3f}, {test.degrees:.2f} degrees, p {test.p:.3g}"
            for test in self.tests
        ]
        rule = f"better by {self.margin} nats at p < {self.max_p}"
        lines.append(rule if self.significant else f"NOT {rule}")
        return "\n".join(lines) + "\n"


def compare_logs(
    runs: Sequence[RunLog], standing: Sequence[RunLog], *, margin: float = MARGIN_NATS
) -> Verdict:
    """The verdict on runs against those of the standing score.

    Raises :class:`SubmissionError` for too few runs, or runs that differ in tokenizer.
    """
    if not standing:
        raise SubmissionError("there is no standing score to compare with")
    ours, theirs = _ratio(runs), _ratio(standing)
    if abs(ours / theirs - 1) <= _SAME_RATIO:
        unit, losses = "nats a token", [run.score.val_loss for run in runs]
    else:
        unit = "bits a byte, as nats a token of the standing runs"
        losses = [run.score.val_bpb * theirs for run in runs]
    return compare(losses, [run.score.val_loss for run in standing], margin=margin, unit=unit)


def compare(
    losses: Sequence[float],
    standing: Sequence[float],
    *,
    margin: float = MARGIN_NATS,
    max_p: float = MAX_P,
    unit: str = "nats a token",
) -> Verdict:
    """The verdict on samples of losses; ``standing`` may be a single number.

    Raises :class:`SubmissionError` if there are less than two losses, or no standing one.
    """
    if len(losses) < 2:
        raise SubmissionError(f"a test needs two seeds at least, not {len(losses)}")
    if not standing:
        raise SubmissionError("there is no standing score to compare with")
    if not all(map(math.isfinite, (*losses, *standing, margin))):
        raise SubmissionError("a loss is not a finite number")
    bar = mean(standing) - margin
    tests = [one_sample(losses, bar)]
    if len(standing) >= 2:
        tests.append(welch(losses, standing, margin))
    return Verdict(
        unit=unit,
        losses=tuple(losses),
        mean=mean(losses),
        std=math.sqrt(variance(losses)),
        standing_mean=mean(standing),
        n_standing=len(standing),
        gain=mean(standing) - mean(losses),
        margin=margin,
        tests=tuple(tests),
        max_p=max_p,
    )


def one_sample(losses: Sequence[float], bar: float) -> TTest:
    """Against "the mean is ``bar`` or more"."""
    n = len(losses)
    return _test("one mean", mean(losses) - bar, variance(losses) / n, n - 1)


def welch(losses: Sequence[float], standing: Sequence[float], margin: float = 0.0) -> TTest:
    """Against "the mean is the standing mean - ``margin`` or more"."""
    a, b = variance(losses) / len(losses), variance(standing) / len(standing)
    difference = mean(losses) - (mean(standing) - margin)
    if a + b == 0:
        return _test("Welch", difference, 0.0, len(losses) + len(standing) - 2)
    # Scaled, so that squares of small variances do not vanish.
    share = a / (a + b)
    inverse = share**2 / (len(losses) - 1) + (1 - share) ** 2 / (len(standing) - 1)
    return _test("Welch", difference, a + b, 1 / inverse)


def need_different_runs(runs: Sequence[RunLog]) -> None:
    """Raise :class:`SubmissionError` if one of them is there twice, by what logs say of seeds."""
    seeds = [run.seed for run in runs if run.seed is not None]
    if len(set(seeds)) < len(seeds) or len({run.path.resolve() for run in runs}) < len(runs):
        raise SubmissionError(f"seeds {seeds}: one is there twice, which is no other run")


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def variance(values: Sequence[float]) -> float:
    """Of a sample of two or more: the divisor is n - 1."""
    middle = mean(values)
    return math.fsum((x - middle) ** 2 for x in values) / (len(values) - 1)


def student_t_below(t: float, degrees: float) -> float:
    """P(T <= t) of Student's t with ``degrees`` > 0, which need not be whole."""
    if math.isinf(t):
        return 0.0 if t < 0 else 1.0
    square = t * t
    if square < degrees:  # 1 - x would lose digits of x
        tail = 0.5 - 0.5 * incomplete_beta(0.5, degrees / 2, square / (degrees + square))
    else:
        tail = 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square))
    return tail if t < 0 else 1 - tail


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), regularised; a, b > 0 and x in 0..1."""
    if not 0 <= x <= 1:
        raise ValueError(f"x = {x} is not in 0..1")
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # the fraction is quick on the other side
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_front) * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    """1 / (1 + d1 / (1 + d2 / (1 + ...))), by Lentz's method."""
    c, d = 1.0, _off_zero(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            return value
    raise ArithmeticError(f"the fraction of I_{x}({a}, {b}) does not converge")


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _test(name: str, difference: float, squared_error: float, degrees: float) -> TTest:
    """Without any spread the difference alone decides."""
    if squared_error > 0:
        t = difference / math.sqrt(squared_error)
    else:
        t = -math.inf if difference < 0 else math.inf
    return TTest(name, t, degrees, student_t_below(t, degrees))


def _ratio(runs: Sequence[RunLog]) -> float:
    """Nats a token by bits a byte of runs with one tokenizer."""
    ratios = [run.nats_a_bit for run in runs]
    if not ratios:
        raise SubmissionError("there are no runs to compare")
    if max(ratios) / min(ratios) - 1 > _SAME_RATIO:
        raise SubmissionError(
            "the runs differ in nats a token by bits a byte, and so in tokenizer or validation set"
        )
    return mean(ratios)
