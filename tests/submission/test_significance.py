"""Student's t against known values, the two tests against textbook and exact cases, the verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pgolf_codec.cli import main
from pgolf_codec.errors import SubmissionError
from pgolf_codec.eval.significance import (
    compare,
    incomplete_beta,
    one_sample,
    student_t_below,
    welch,
)


@pytest.mark.parametrize(
    ("t", "degrees", "p"),
    [  # printed tables of critical values: P(T > t) = p
        (6.314, 1, 0.05),
        (31.82, 1, 0.01),
        (318.31, 1, 0.001),
        (6.965, 2, 0.01),
        (22.327, 2, 0.001),
        (4.541, 3, 0.01),
        (3.747, 4, 0.01),
        (2.764, 10, 0.01),
        (4.144, 10, 0.001),
        (2.457, 30, 0.01),
        (2.364, 100, 0.01),
    ],
)
def test_students_t_against_tables(t: float, degrees: float, p: float) -> None:
    assert student_t_below(-t, degrees) == pytest.approx(p, rel=2e-3)
    assert student_t_below(t, degrees) == pytest.approx(1 - p, rel=2e-3)


def test_students_t_where_it_is_elementary() -> None:
    for t in (-50.0, -3.3, -1.0, -1e-3, 0.0, 0.7, 2.0, 19.0):
        assert student_t_below(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-14)
        exact = 0.5 + t / (2 * math.sqrt(2 + t * t))
        assert student_t_below(t, 2) == pytest.approx(exact, abs=1e-14)
        s = t / math.sqrt(4 + t * t)
        assert student_t_below(t, 4) == pytest.approx(0.5 + 0.75 * (s - s**3 / 3), abs=1e-13)
        normal = 0.5 * math.erfc(-t / math.sqrt(2))
        assert student_t_below(t, 1e6) == pytest.approx(normal, abs=1e-6)


def test_the_far_tail_keeps_its_digits() -> None:
    t = -1e6  # P = 1/pi * (1/|t| - 1/(3 |t|^3) ...)
    assert student_t_below(t, 1) == pytest.approx(1 / (math.pi * 1e6), rel=1e-9)
    assert student_t_below(-math.inf, 3) == 0
    assert student_t_below(math.inf, 3) == 1


def test_the_incomplete_beta_function() -> None:
    for x in (0.0, 1e-9, 0.2, 0.5, 0.9, 1.0):
        assert incomplete_beta(1, 1, x) == pytest.approx(x, abs=1e-15)
        assert incomplete_beta(3, 1, x) == pytest.approx(x**3, abs=1e-15)
        assert incomplete_beta(1, 4, x) == pytest.approx(1 - (1 - x) ** 4, abs=1e-14)
        binomial = sum(math.comb(9, k) * x**k * (1 - x) ** (9 - k) for k in range(4, 10))
        assert incomplete_beta(4, 6, x) == pytest.approx(binomial, abs=1e-14)
    assert incomplete_beta(0.5, 0.5, 0.25) == pytest.approx(1 / 3, abs=1e-14)
    with pytest.raises(ValueError, match="is not in"):
        incomplete_beta(1, 1, 1.5)


def test_one_sample_by_hand() -> None:
    # mean 2, variance 1, n 3: t = (2 - 4) * sqrt(3)
    test = one_sample([1.0, 2.0, 3.0], 4.0)
    assert test.t == pytest.approx(-2 * math.sqrt(3))
    assert test.degrees == 2
    t = -2 * math.sqrt(3)
    assert test.p == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)))


def test_welch_by_hand() -> None:
    # variances 1/3 and 4/3 of the means: t = -1 / sqrt(5/3), degrees (5/3)^2 / (1/18 + 16/18)
    test = welch([1.0, 2.0, 3.0], [1.0, 3.0, 5.0])
    assert test.t == pytest.approx(-1 / math.sqrt(5 / 3))
    assert test.degrees == pytest.approx(25 / 9 / (17 / 18))
    assert welch([1.0, 2.0, 3.0], [1.0, 3.0, 5.0], margin=1.0).t == pytest.approx(0)


def test_the_margin_decides() -> None:
    standing = [2.0000, 2.0004, 1.9996]
    better = compare([1.9900, 1.9904, 1.9896], standing)
    assert better.significant
    assert better.gain == pytest.approx(0.01)
    assert [test.name for test in better.tests] == ["one mean", "Welch"]
    just = compare([1.9951, 1.9955, 1.9947], standing)  # better, by .0049
    assert not just.significant
    assert compare([1.9951, 1.9955, 1.9947], standing, margin=0.001).significant
    assert "NOT better by 0.005 nats at p < 0.01" in just.describe()
    wide = compare([1.97, 2.01, 1.98], standing)  # mean better by .0133, but not surely
    assert wide.gain > 0.01
    assert not wide.significant
    # Sure of its own mean, but the standing one is not known well enough.
    vague = compare([1.9900, 1.9904, 1.9896], [1.96, 2.00, 2.04])
    assert [test.p < 0.01 for test in vague.tests] == [True, False]
    assert not vague.significant


def test_p_is_one_sided_and_halves_at_the_bar() -> None:
    verdict = compare([1.994, 1.996], [2.0])
    assert verdict.tests[0].p == pytest.approx(0.5)
    assert verdict.n_standing == 1
    assert len(verdict.tests) == 1


def test_without_spread_the_difference_decides() -> None:
    assert compare([1.0, 1.0], [2.0, 2.0]).significant
    assert not compare([1.995, 1.995], [2.0, 2.0]).significant
    assert not compare([3.0, 3.0], [2.0]).significant


@pytest.mark.parametrize(
    ("losses", "standing", "why"),
    [
        ([1.0], [2.0], "two seeds at least, not 1"),
        ([], [2.0], "not 0"),
        ([1.0, 1.1], [], "no standing score"),
        ([1.0, math.nan], [2.0], "not a finite number"),
    ],
)
def test_impossible_samples(losses: list[float], standing: list[float], why: str) -> None:
    with pytest.raises(SubmissionError, match=why):
        compare(losses, standing)


def log(path: Path, loss: float, ratio: float = 1.69) -> Path:
    path.write_text(f"final_exact val_loss:{loss:.8f} val_bpb:{loss / ratio:.8f}\n")
    return path


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = [str(log(tmp_path / f"seed{i}.log", 1.9 + i / 1e4)) for i in range(3)]
    theirs = [str(log(tmp_path / f"old{i}.log", 1.92 + i / 1e4)) for i in range(3)]
    assert main(["significance", *ours, "--standing", *theirs, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["significant"]
    assert verdict["unit"] == "nats a token"
    assert verdict["gain"] == pytest.approx(0.02)
    assert main(["significance", *theirs, "--standing", *ours]) == 1
    assert "NOT better" in capsys.readouterr().out
    assert main(["significance", *ours, "--standing-loss", "1.91"]) == 0
    assert "seed 2  val_bpb" in capsys.readouterr().out
    assert main(["significance", *ours]) == 2
    assert main(["significance", ours[0], "--standing-loss", "3"]) == 1
    assert "two seeds" in capsys.readouterr().err
    again = tmp_path / "again-seed1.log"  # otherwise a run that is there twice has no spread
    again.write_text((tmp_path / "seed1.log").read_text())
    for twice in (ours[1], str(again)):
        assert main(["significance", ours[1], twice, "--standing-loss", "1.91"]) == 1
        assert "one is there twice" in capsys.readouterr().err


def test_other_tokenizers_are_compared_by_the_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [str(log(tmp_path / f"a{i}.log", 2.5 + i / 1e4, ratio=2.4)) for i in range(3)]
    theirs = [str(log(tmp_path / f"b{i}.log", 1.9 + i / 1e4, ratio=1.69)) for i in range(3)]
    assert main(["significance", *ours, "--standing", *theirs, "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["unit"].startswith("bits a byte")
    assert verdict["losses"][0] == pytest.approx(2.5 / 2.4 * 1.69)
    assert main(["significance", *ours, theirs[0], "--standing", *theirs]) == 1
    assert "differ in nats a token by bits a byte" in capsys.readouterr().err
