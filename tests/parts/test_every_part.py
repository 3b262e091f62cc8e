"""With any part: steps and the whole agree, gradients flow, folding keeps the function."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch")

from small_models import (  # noqa: E402
    FLOAT_ONLY,
    LENGTH,
    PARTS,
    PLAIN,
    config_of,
    log_probabilities,
    random_ids,
    random_model,
)

from pgolf_codec.lm.conversion.fold import FOLDED, fold  # noqa: E402
from pgolf_codec.lm.floats.model import Transformer, kind_of  # noqa: E402

EVERY = pytest.mark.parametrize("name", PARTS | FLOAT_ONLY)


@EVERY
def test_steps_agree_with_the_whole(name: str) -> None:
    """A position's output is a function of what came before, however much is computed at once."""
    model, ids = random_model(config_of(name)), random_ids()
    whole = log_probabilities(model, ids)
    assert whole.shape == (2, LENGTH, PLAIN.vocab_size)
    for t in (1, 2, 5, 9, 14, LENGTH - 1):  # in and across windows, and both documents
        step = log_probabilities(model, ids[:, :t])[:, -1]
        assert torch.allclose(step, whole[:, t - 1], atol=2e-5), t


@EVERY
def test_the_past_matters(name: str) -> None:
    model, ids = random_model(config_of(name)), random_ids()
    changed = ids.clone()
    changed[:, LENGTH - 3] = (changed[:, LENGTH - 3] + 5) % 30 + 2
    difference = (log_probabilities(model, ids) - log_probabilities(model, changed)).abs()
    assert (difference.amax(-1)[:, LENGTH - 3 :] > 1e-4).all()


@EVERY
def test_gradients_reach_every_parameter(name: str) -> None:
    model, ids = random_model(config_of(name)).train(), random_ids()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.isfinite().all(), parameter
        assert p.grad.abs().sum() > 0, parameter
        assert p.grad.shape == p.shape


@EVERY
def test_a_model_begins_as_a_guess(name: str) -> None:
    """At the start layers add nothing; the first gradients come to all that adds something."""
    model, ids = Transformer(config_of(name), LENGTH), random_ids()
    model.init_weights(3)
    loss = model.loss(ids[:, :-1], ids[:, 1:])
    weight = 1 + model.config.mtp_weight * bool(model.config.mtp_heads)
    assert loss.item() / weight == pytest.approx(math.log(PLAIN.vocab_size), abs=0.1)
    again = Transformer(config_of(name), LENGTH)
    again.init_weights(3)
    other = Transformer(config_of(name), LENGTH)
    other.init_weights(4, init="orthogonal", qk_gain=4.0)
    for (parameter, p), q, r in zip(
        model.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(p, q)
        if kind_of(parameter) in ("matrices", "tables") and p.abs().sum():
            assert not torch.equal(p, r)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("unroll", [False, True], ids=["", "unrolled"])
def test_folding_keeps_the_function(name: str, unroll: bool) -> None:
    model, ids = random_model(config_of(name)), random_ids()
    if model.config.document_mask:  # which is no part of the folded one
        ids[0, LENGTH // 2] = 7
    folded = fold(model, unroll=unroll)
    c = folded.config
    assert {key: getattr(c, key) for key in FOLDED} == FOLDED
    if unroll:
        assert c.passes == ()
        assert c.order == tuple(range(len(model.config.order)))
    assert torch.allclose(log_probabilities(folded, ids), log_probabilities(model, ids), atol=1e-4)
    if name == "plain":
        assert c == model.config
        for (key, p), q in zip(model.named_parameters(), folded.parameters(), strict=True):
            assert torch.equal(p, q), key


@EVERY
def test_kinds_of_parameters(name: str) -> None:
    model = Transformer(config_of(name), LENGTH)
    kinds = model.kinds()
    assert sum(len(members) for members in kinds.values()) == len(list(model.parameters()))
    assert all(p.ndim == 2 for members in ("matrices", "tables") for _, p in kinds[members])
    layers = {key.split(".")[1] for key, _ in kinds["matrices"] if key.startswith("blocks.")}
    assert len(layers) == model.config.n_layers
    assert "embedding" in dict(kinds["tables"])


@EVERY
def test_configs_come_back_from_plain_types(name: str) -> None:
    config = config_of(name)
    values = config.to_dict()
    assert type(config).from_dict(values) == config
    assert set(values) >= {"vocab_size", "softcap"}
    switches = set(values) - set(PLAIN.to_dict())
    assert switches <= set((PARTS | FLOAT_ONLY)[name])
    assert dataclasses.replace(config) == config
