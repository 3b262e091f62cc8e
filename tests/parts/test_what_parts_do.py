"""Each part does what it says, and nothing where it is neutral."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from small_models import (  # noqa: E402
    LENGTH,
    PLAIN,
    config_of,
    log_probabilities,
    random_ids,
    random_model,
)

from pgolf_codec.errors import ConfigError, ExportError  # noqa: E402
from pgolf_codec.lm.conversion.fold import fold  # noqa: E402
from pgolf_codec.lm.floats import attention as float_attention  # noqa: E402
from pgolf_codec.lm.floats.blocks import rms_norm, without_own_value  # noqa: E402
from pgolf_codec.lm.floats.model import Transformer  # noqa: E402
from pgolf_codec.lm.floats.part import binary, straight_through, ternary  # noqa: E402
from pgolf_codec.lm.model_config import ModelConfig  # noqa: E402


def with_weights_of(model: Transformer, config: ModelConfig, **tensors: Any) -> Transformer:
    """Another graph with the same parameters, but for those that are given."""
    out = Transformer(config, LENGTH)
    own = out.state_dict()
    state = {k: v for k, v in model.state_dict().items() if k in own}
    state |= {key.replace("__", "."): value for key, value in tensors.items()}
    assert state.keys() == own.keys()
    out.load_state_dict(state)
    return out.eval()


def blocks(name: str, value: Any, layers: tuple[int, ...] = (0, 1, 2, 3)) -> dict[str, Any]:
    return {f"blocks__{i}__{name}": value for i in layers}


NEUTRAL: dict[str, dict[str, Any]] = {
    "no smear": {},
    "smear gate": {"smear": torch.full((32,), -40.0)},
    "U-Net": {"skips": torch.zeros(2, 32)},
    "value embeddings": {
        "value_table": torch.ones(40, 6),
        "value_proj": torch.ones(16, 6),
        **blocks("attention__value_scale", torch.zeros(1), (1, 3)),
    },
    "attention gate": {
        **blocks("attention__gate", torch.zeros(4, 32)),
        **blocks("attention__gate_bias", torch.full((4,), 40.0)),
    },
    "MTP": {"mtp": torch.ones(2, 40, 32)},
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_parameters_change_nothing(name: str) -> None:
    model, ids = random_model(PLAIN), random_ids()
    with torch.no_grad():
        model.smear.zero_()
    other = with_weights_of(model, config_of(name), **NEUTRAL[name])
    assert torch.allclose(log_probabilities(other, ids), log_probabilities(model, ids), atol=2e-5)


def test_untied_with_the_embedding_for_its_head_is_tied() -> None:
    model, ids = random_model(PLAIN), random_ids()
    other = with_weights_of(model, config_of("untied"), head=model.embedding)
    assert torch.equal(log_probabilities(other, ids), log_probabilities(model, ids))
    wrong = with_weights_of(model, config_of("untied"), head=model.embedding.flip(0))
    assert not torch.allclose(log_probabilities(wrong, ids), log_probabilities(model, ids), atol=1)


def test_factored_of_full_rank_is_not_factored() -> None:
    model, ids = random_model(PLAIN), random_ids()
    config = config_of("factored embedding", embedding_rank=32)
    other = with_weights_of(model, config, embedding_proj=torch.eye(32))
    assert torch.allclose(log_probabilities(other, ids), log_probabilities(model, ids), atol=1e-5)


def test_low_ranks_are_products() -> None:
    model, ids = random_model(config_of("low rank")), random_ids()
    assert torch.linalg.matrix_rank(fold(model).blocks[1].attention.wq) == 6
    assert torch.linalg.matrix_rank(fold(model).blocks[2].mlp.up) == 10
    assert model.blocks[0].mlp.down.shape == (32, 10)
    assert model.blocks[0].mlp.down_in.shape == (10, 48)
    assert log_probabilities(model, ids).isfinite().all()


def test_a_scale_for_each_group_of_weights() -> None:
    rows = random_model(config_of("ternary")).blocks[0].mlp.up
    groups = with_weights_of(random_model(config_of("ternary")), config_of("ternary by groups"))
    found = groups.blocks[0].mlp.weight("up").detach().view(-1, 16)  # 48 rows of two groups
    magnitude = rows.detach().view(-1, 16).abs().mean(-1, keepdim=True)
    assert set((found / magnitude).round(decimals=4).unique().tolist()) == {-1, 0, 1}
    assert magnitude.unique().numel() == 96
    assert (found - rows.view(-1, 16)).abs().max() < 4 * magnitude.max()


def test_normalised_keys_have_no_length() -> None:
    ids = random_ids()
    for name, matters in (("plain", False), ("no QK-norm", True)):
        model = random_model(config_of(name))
        before = log_probabilities(model, ids)
        with torch.no_grad():
            model.blocks[1].attention.wk.mul_(3)
        same = torch.allclose(log_probabilities(model, ids), before, atol=1e-4)
        assert same != matters


def test_activations() -> None:
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    for name, slope in (("plain", 0.25), ("relu2", 0.0)):
        mlp = random_model(config_of(name)).blocks[0].mlp
        u = F.linear(x, mlp.up)
        expected = torch.where(u > 0, u * u, slope * u * u) @ mlp.down.T * mlp.scale
        assert torch.allclose(mlp(x), expected, atol=1e-5)


def test_smear_gate_is_a_mean_of_two_embeddings() -> None:
    model, ids = random_model(config_of("smear gate", bigram_buckets=0, bigram_dim=0)), random_ids()
    x = rms_norm(model.embedding[ids])
    gate = torch.sigmoid(model.smear)
    out = model.embed(ids)
    assert torch.allclose(out[:, 5], (1 - gate) * x[:, 5] + gate * x[:, 4], atol=1e-6)
    assert torch.allclose(out[:, 0], (1 - gate) * x[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("U-Net", {2: 1, 3: 0}),
        ("U-Net of odd depth", {1: 0}),
        ("U-Net, recurrence", {3: 2, 4: 1, 5: 0}),
    ],
)
def test_skips_join_passes(name: str, added: dict[int, int]) -> None:
    """What each pass is given, by watching the blocks."""
    model, ids = random_model(config_of(name)), random_ids()
    inputs, outputs = [], []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        block.register_forward_hook(lambda _, given, out: outputs.append(out))
    log_probabilities(model, ids)
    assert len(inputs) == len(model.config.order)
    for j in range(1, len(inputs)):
        expected = outputs[j - 1]
        if j in added:
            number = sorted(added).index(j)
            expected = expected + model.skips[number] * outputs[added[j]]
        assert torch.allclose(inputs[j], expected, atol=1e-6), j


def test_passes_run_layers_again() -> None:
    model, ids = random_model(config_of("universal")), random_ids()
    calls: list[int] = []
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, i=i: calls.append(i))
    log_probabilities(model, ids)
    assert calls == [0, 1, 0, 1, 0, 1]
    unrolled = fold(model, unroll=True)
    assert [block.attention.window for block in unrolled.blocks] == [8, 100] * 3


def test_parallel_layers_read_one_input() -> None:
    model, ids = random_model(config_of("parallel")), random_ids()
    seen: dict[str, Any] = {}
    for name, module in model.named_modules():
        if name in ("blocks.1.attention", "blocks.1.mlp", "blocks.2.attention", "blocks.2.mlp"):
            module.register_forward_pre_hook(
                lambda _, given, name=name: seen.__setitem__(name, given[0])
            )
    log_probabilities(model, ids)
    assert torch.equal(seen["blocks.1.attention"], seen["blocks.1.mlp"])
    assert not torch.allclose(seen["blocks.2.attention"], seen["blocks.2.mlp"], atol=0.1)


def test_value_embeddings_are_the_tokens_own() -> None:
    """Only their layers use them, and they come by way of the values alone."""
    model, ids = random_model(config_of("value embeddings")), random_ids()
    given = model.given(ids, model.embed(ids))
    assert torch.equal(given.values, model.value_table[ids] @ model.value_proj.T)
    with torch.no_grad():
        for i in (1, 3):
            model.blocks[i].attention.wo.zero_()
        before = log_probabilities(model, ids)
        model.value_table.add_(1.0)
    assert torch.equal(log_probabilities(model, ids), before)


def test_xsa_takes_away_the_own_value() -> None:
    generator = torch.Generator().manual_seed(4)
    o = torch.randn(2, 6, 5, 8, generator=generator)
    v = torch.randn(2, 3, 5, 8, generator=generator)
    out = without_own_value(o, v)
    along = (out.view(2, 3, 2, 5, 8) * v[:, :, None]).sum(-1)
    assert along.abs().max() < 1e-5
    assert torch.allclose(without_own_value(out, v), out, atol=1e-6)
    own = v.repeat_interleave(2, dim=1)
    assert without_own_value(3 * own, v).abs().max() < 1e-5


def test_divided_norms() -> None:
    model, ids = random_model(config_of("divided norms")), random_ids()
    seen = []
    model.blocks[3].attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    log_probabilities(model, ids)
    assert torch.allclose(seen[0].square().mean(-1), torch.tensor(0.25), atol=1e-3)


def test_a_gate_closes_a_head() -> None:
    model, ids = random_model(config_of("attention gate")), random_ids()
    attention, seen = model.blocks[1].attention, []
    with torch.no_grad():
        attention.gate.zero_()
        attention.gate_bias[:] = torch.tensor([0.0, -40.0, 40.0, 0.0])
    model.set_activation_map(
        lambda name, x: seen.append(x) or x if name == "blocks.1.attention.attended" else x
    )
    log_probabilities(model, ids)
    heads = seen[0].view(2, LENGTH, 4, 8)
    assert heads[:, :, 1].abs().max() < 1e-9
    assert heads[:, :, 2].abs().max() > 0.1


@pytest.mark.parametrize(("function", "levels"), [(ternary, {-1, 0, 1}), (binary, {-1, 1})])
def test_weights_of_few_levels(function: Any, levels: set[int]) -> None:
    w = torch.randn(7, 50, generator=torch.Generator().manual_seed(2))
    rounded, scale = function(w), w.abs().mean(1, keepdim=True)
    assert {round(v) for v in (rounded / scale).flatten().tolist()} == levels
    assert torch.equal(rounded.abs(), torch.where(rounded == 0, 0, scale))
    assert (rounded - w).abs().mean() < 0.6 * w.abs().mean()
    trained = w.clone().requires_grad_()
    used = straight_through(trained, function)
    assert torch.allclose(used, rounded, atol=1e-6)
    (used * torch.arange(50.0)).sum().backward()
    assert torch.equal(trained.grad, torch.arange(50.0).expand(7, 50))
    zeros = function(torch.zeros(2, 4))
    assert torch.equal(zeros, torch.zeros(2, 4))


def test_documents_do_not_see_each_other() -> None:
    """A row's second document gets what it would get alone, but for the angles, which cancel."""
    model, ids = random_model(config_of("document mask")), random_ids()
    middle = LENGTH // 2
    assert ids[0, middle] == 1
    alone = log_probabilities(model, ids[:1, middle:])
    together = log_probabilities(model, ids)[:1, middle:]
    assert torch.allclose(alone, together, atol=1e-4)
    plain = with_weights_of(model, PLAIN)
    assert not torch.allclose(log_probabilities(plain, ids)[:1, middle:], alone, atol=0.1)
    assert torch.allclose(
        log_probabilities(plain, ids)[:, :middle], log_probabilities(model, ids)[:, :middle]
    )


def test_mtp_counts_in_training_only() -> None:
    model, ids = random_model(config_of("MTP")), random_ids()
    x, y = ids[:, :-1], ids[:, 1:]

    def mean_nats(states: Any, head: Any, targets: Any) -> Any:
        z = F.linear(states, head)
        cap = model.config.softcap
        return F.cross_entropy((cap * torch.tanh(z / cap)).flatten(0, 1), targets.flatten())

    with torch.no_grad():
        states = model(x)
        alone = mean_nats(states, model.embedding, y)
        assert torch.allclose(model.loss(x, y), alone, atol=1e-5)
        further = [
            mean_nats(states[:, :-n], head, y[:, n:]) for n, head in enumerate(model.mtp, start=1)
        ]
        expected = alone + model.config.mtp_weight * (further[0] + further[1]) / 2
        assert torch.allclose(model.train().loss(x, y), expected, atol=1e-5)


def test_loss_has_the_gradients_of_autograd() -> None:
    for name in ("plain", "factored, untied"):
        model, ids = random_model(config_of(name)), random_ids()
        x, y = ids[:, :-1], ids[:, 1:]
        model.loss(x, y).backward()
        found = {key: p.grad.clone() for key, p in model.named_parameters()}
        model.zero_grad()
        F.cross_entropy(model.logits(model(x)).flatten(0, 1), y.flatten()).backward()
        for key, p in model.named_parameters():
            assert torch.allclose(found[key], p.grad, atol=1e-5), key


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [1, 5, 8, 23, 100])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("block", [4, 64])
def test_ways_of_attention_agree(
    window: int, documents: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float_attention, "BLOCK", block)
    monkeypatch.setattr(float_attention, "LONG_WINDOW", 8 if block < 8 else 256)
    ways = ["auto", "blocks", "sdpa"]
    if documents and window == 5:  # importing it takes seconds
        ways.append("flex")
    generator = torch.Generator().manual_seed(window)
    q, k, v = (torch.randn(2, n, LENGTH, 8, generator=generator) for n in (4, 2, 2))
    of = (random_ids() == 1).cumsum(1) if documents else None
    with torch.no_grad():
        found = {way: float_attention.attend(q, k, v, window, of, way) for way in ways}
    for way, o in found.items():
        assert torch.allclose(o, found["sdpa"], atol=1e-5), way


def test_maps_see_every_matrix_and_activation() -> None:
    model, ids = random_model(config_of("several")), random_ids()
    plain = log_probabilities(model, ids)
    weights, activations = set(), set()
    model.set_weight_map(lambda name, w: weights.add(name) or w)
    model.set_activation_map(lambda name, x: activations.add(name) or x)
    assert torch.equal(log_probabilities(model, ids), plain)
    kinds = model.kinds()
    assert weights == {name for kind in ("matrices", "tables") for name, _ in kinds[kind]}
    endings = {"norm", "query", "key", "value", "attended", "hidden"}
    assert {name.split(".")[-1] for name in activations} == endings
    model.set_weight_map(lambda name, w: 0 * w if name == "blocks.2.mlp.up" else w)
    assert not torch.equal(log_probabilities(model, ids), plain)
    model.set_weight_map(None)
    model.set_activation_map(None)
    assert torch.equal(log_probabilities(model, ids), plain)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"activation": "gelu"}, "activation 'gelu'"),
    ({"smear": "often"}, "smear 'often'"),
    ({"weights": "int3"}, "weights 'int3'"),
    ({"passes": (0, 1, 2, 4)}, "passes"),
    ({"passes": (0, 1, 2)}, "at least once"),
    ({"parallel_layers": (4,)}, "parallel_layers"),
    ({"xsa_layers": (1, 1)}, "xsa_layers"),
    ({"value_layers": (1,)}, "value_dim 0"),
    ({"value_dim": 6}, "value_layers"),
    ({"value_layers": (1,), "value_dim": 7}, "not even"),
    ({"mtp_heads": 9}, "mtp_heads"),
    ({"mlp_rank": -1}, "mlp_rank"),
    ({"weights": "binary", "mlp_rank": 4}, "of low rank"),
    ({"weights": "ternary", "weight_group": 32}, "weight_group 32 does not divide"),
    ({"weight_group": 16}, "weight_group 16"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_impossible_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of("plain", **changes)


def test_unknown_choices() -> None:
    model = Transformer(PLAIN, LENGTH)
    with pytest.raises(ConfigError, match="init 'zero'"):
        model.init_weights(1, init="zero")
    with pytest.raises(ConfigError, match="attention 'fast'"):
        model.set_attention("fast")
    again = config_of("smear gate", n_layers=2, windows=(8, 8), passes=(0, 1, 0, 1))
    with pytest.raises(ExportError, match="smear gate"):
        fold(random_model(again))


@pytest.mark.parametrize(
    ("name", "message"),
    [("no QK-norm", "qk_norm is off"), ("ternary by groups", "weight_group 16: .* a row")],
)
def test_what_has_no_integers(name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        fold(random_model(config_of(name)))
