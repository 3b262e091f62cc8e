"""Muon and what it is told in the course of a run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import ModelConfig, TrainConfig, with_settings

torch = pytest.importorskip("torch")
optim = pytest.importorskip("pgolf_codec.lm.training.optim")
schedules = pytest.importorskip("pgolf_codec.lm.training.schedules")
Transformer = pytest.importorskip("pgolf_codec.lm.floats.model").Transformer


def normal(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "low", "high"), [("quintic", 0.6, 1.2), ("polar", 0.8, 1.16)])
@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 64), (1, 64, 16)])
def test_singular_values_become_one(
    kind: str, low: float, high: float, shape: tuple[int, ...]
) -> None:
    u, _, v = torch.linalg.svd(normal(*shape), full_matrices=False)
    s = torch.logspace(0, -1.7, min(shape[1:]))
    out = optim.orthogonalize(u * s @ v, kind, 5).float()
    found = torch.linalg.svdvals(out)
    assert low < float(found.min()) <= float(found.max()) < high
    aligned = torch.einsum("nij,nij->n", out, u @ v) / min(shape[1:])
    assert float(aligned.min()) > 0.85  # the same singular vectors


def test_polar_coefficients_are_nearer_to_one_for_small_values() -> None:
    u, _, v = torch.linalg.svd(normal(1, 16, 16), full_matrices=False)
    s = torch.cat((torch.ones(12), torch.full((4,), 0.003)))
    found = [
        torch.linalg.svdvals(optim.orthogonalize(u * s @ v, kind, 5).float())[0]
        for kind in ("quintic", "polar")
    ]
    errors = [float((values - 1).abs().max()) for values in found]
    assert errors[1] < 0.35 < 0.5 < errors[0]
    assert len(optim.coefficients("polar", 7)) == 7


def test_rows_are_made_even_and_the_norm_is_kept() -> None:
    sizes = torch.logspace(0, 2, 8)[:, None]
    p = torch.zeros(8, 8, requires_grad=True)
    muon = optim.Muon([p], 1.0, row_beta=0.9)
    update = normal(8, 8) * sizes
    for _ in range(3):
        out = muon._even_rows(p, update)
    rows = out.norm(dim=1)
    assert float(rows.max() / rows.min()) == pytest.approx(1, abs=0.01)
    assert float(out.norm()) == pytest.approx(float(update.norm()), rel=1e-3)
    # One step's large row is divided by what is remembered of it.
    louder = update.clone()
    louder[3] *= 10
    rows = muon._even_rows(p, louder).norm(dim=1)
    assert 1.5 < float(rows[3] / rows[2]) < 10


def test_a_step_of_muon() -> None:
    p = torch.nn.Parameter(normal(16, 8))
    before = p.detach().clone()
    muon = optim.Muon([p], 0.1, momentum=0.0, weight_decay=0.5)
    p.grad = normal(16, 8, seed=2)
    muon.step()
    expected = before * (1 - 0.1 * 0.5)
    expected -= 0.1 * 2**0.5 * optim.orthogonalize(p.grad[None])[0].float()
    assert torch.allclose(p, expected, atol=1e-6)


def test_muon_looks_ahead() -> None:
    """Nesterov: the last gradient counts once more than the mean of all has it."""
    p = torch.nn.Parameter(torch.zeros(16, 8))
    muon = optim.Muon([p], 0.1, momentum=0.9)
    first, second = normal(16, 8, seed=2), normal(16, 8, seed=3)
    for gradient in (first, second):
        before = p.detach().clone()
        p.grad = gradient
        muon.step()
    mean = 0.9 * 0.1 * first + 0.1 * second
    ahead = optim.orthogonalize((0.1 * second + 0.9 * mean)[None])[0].float()
    assert torch.allclose((before - p) / (0.1 * 2**0.5), ahead, atol=0.03)
    behind = optim.orthogonalize(mean[None])[0].float()
    assert not torch.allclose(ahead, behind, atol=0.1)


def test_who_trains_what(tiny: ModelConfig) -> None:
    model = Transformer(tiny, 64)
    config = TrainConfig(adam_weight_decay=0.1, embed_lr=0.5, scalar_lr=0.25)
    adam, muon = optim.make_optimizers(model, config)
    names = {id(p): name for name, p in model.named_parameters()}
    of_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    of_adam = [{names[id(p)] for p in group["params"]} for group in adam.param_groups]
    assert "blocks.0.mlp.up" in of_muon
    assert of_adam[0] == {"embedding", "bigram"}
    assert "blocks.1.attention.gain" in of_adam[1]
    assert of_muon | of_adam[0] | of_adam[1] == set(names.values())
    assert [(g["base_lr"], g["base_decay"]) for g in adam.param_groups] == [(0.5, 0.1), (0.25, 0)]


def test_heads_have_a_rate_of_their_own(tiny: ModelConfig) -> None:
    model = Transformer(dataclasses.replace(tiny, tied=False, mtp_heads=1), 64)
    config = TrainConfig(embed_lr=0.5, head_lr=0.125, adam_weight_decay=0.1)
    _, heads, _ = optim.make_optimizers(model, config)[0].param_groups
    assert {id(p) for p in heads["params"]} == {id(model.head), id(model.mtp)}
    assert (heads["base_lr"], heads["base_decay"]) == (0.125, 0.1)


def test_what_a_step_is_told(tiny: ModelConfig) -> None:
    config = TrainConfig(
        momentum_start=0.85,
        momentum_warmup_steps=10,
        weight_decay=0.2,
        weight_decay_taper=2.0,
        matrix_lr=0.1,
    )
    optimizers = optim.make_optimizers(Transformer(tiny, 64), config)
    group = optimizers[1].param_groups[0]
    schedules.set_rates(optimizers, 0.5, 5, config)
    assert (group["lr"], group["weight_decay"]) == (0.05, pytest.approx(0.05))
    assert group["momentum"] == pytest.approx(0.9)
    schedules.set_rates(optimizers, 1.0, 10, config)
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.1, 0.2, 0.95)


def test_time_or_steps_are_the_budget() -> None:
    by_time = TrainConfig(minutes=1)
    assert schedules.progress(30, 999, by_time) == 0.5
    assert not schedules.is_over(58, 9, 2.0, by_time)
    assert schedules.is_over(58.1, 9, 2.0, by_time)  # would end behind the cap
    by_steps = TrainConfig(minutes=1, iterations=100)
    assert schedules.progress(6, 40, by_steps) == 0.4
    assert schedules.progress(54, 40, by_steps) == 0.9
    assert schedules.is_over(0, 100, 0, by_steps)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("ema=1.5", "ema 1.5 is not in 0..1"),
        ("batch_rows=0", "batch_rows 0 is not positive"),
        ("matrix_lr=-1", "matrix_lr -1.0 is negative"),
        ("newton_schulz='cubic'", "newton_schulz 'cubic' is not one of quintic, polar"),
        ("init='zeros'", "init 'zeros' is not one of normal, orthogonal"),
        ("qat_bits=9", "qat_bits 9 is not in 2..8"),
        ("momentun=1", "unknown key 'momentun'"),
        ("seed='one'", "seed is not of type int"),
        (f"seed={1 << 64}", "seed 18446744073709551616 is not below"),
        ("nonsense", "is not KEY=VALUE"),
    ],
)
def test_settings_that_are_not_possible(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_settings(TrainConfig(), [setting])
    with pytest.raises(ConfigError, match="exclude each other"):
        with_settings(TrainConfig(), ["ema=0.9", "swa_every=5"])


def test_settings_of_a_command_line() -> None:
    config = with_settings(TrainConfig(matrix_lr=0.5), ["seed=7", "ema = 0.99", "minutes=3"])
    assert (config.seed, config.ema, config.minutes, config.matrix_lr) == (7, 0.99, 3.0, 0.5)
