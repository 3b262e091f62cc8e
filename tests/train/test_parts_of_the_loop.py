"""Means of weights, late rounding, the kernel of the loss, rows of shards, what a log says."""

from __future__ import annotations

import dataclasses
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf_codec.eval.logs import read_log
from pgolf_codec.lm.config import ModelConfig, TrainConfig
from pgolf_codec.lm.data.shards import shard_header
from pgolf_codec.lm.training.line_chart import Series, line_chart, ticks

torch = pytest.importorskip("torch")
averages = pytest.importorskip("pgolf_codec.lm.training.averages")
fake = pytest.importorskip("pgolf_codec.lm.training.fake_quantization")
flops = pytest.importorskip("pgolf_codec.lm.training.flops")
loss_of = pytest.importorskip("pgolf_codec.lm.floats.loss")
lm_train = pytest.importorskip("pgolf_codec.lm.train")
rows_of = pytest.importorskip("pgolf_codec.lm.training.rows")
run_log = pytest.importorskip("pgolf_codec.lm.training.run_log")
Transformer = pytest.importorskip("pgolf_codec.lm.floats.model").Transformer


def test_an_exponential_mean_forgets_the_first_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = averages.make_average(layer, TrainConfig(ema=0.9))
    with torch.no_grad():
        for step in range(400):
            layer.weight.fill_(0.0 if step < 200 else 1.0)
            average.update(layer, step, 1.0)
            if step == 209:
                assert float(average.mean["weight"]) == pytest.approx(1 - 0.9**10)
    average.swap(layer)
    assert layer.weight.item() == pytest.approx(1, abs=1e-6)
    average.swap(layer)
    assert layer.weight.item() == 1.0
    assert averages.make_average(layer, TrainConfig()) is None


def test_a_plain_mean_of_the_last_part() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = averages.make_average(layer, TrainConfig(swa_every=2, swa_at=0.5))
    average.swap(layer)  # of nothing yet
    with torch.no_grad():
        for step in range(10):
            layer.weight.fill_(step)
            average.update(layer, step, 1 - step / 10)
    average.swap(layer)
    assert layer.weight.item() == pytest.approx((6 + 8) / 2)


def test_weights_are_rounded_forwards_only() -> None:
    w = torch.randn(4, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    rounded = fake.round_weight(w, 6)
    step = w.detach().std(1, keepdim=True) * 12.85 / 31
    levels = rounded / step
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert float((rounded - w).abs().max()) <= float(step.max()) / 2 + 1e-6
    rounded.square().sum().backward()
    assert torch.allclose(w.grad, 2 * rounded.detach())


def test_late_rounding_compiles_once(tiny: ModelConfig) -> None:
    config = TrainConfig(qat_at=0.3, qat_activations=True)
    model = Transformer(tiny, 64)
    model.init_weights(1)
    graphs: list[Any] = []

    def compiler(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    run = torch.compile(model, backend=compiler)
    for late in (True, False, False, True, True, False):
        fake.set_rounding(model, config, late)
        run(torch.arange(2, 66)[None])
    assert len(graphs) == 2


def test_a_model_is_rounded_late(tiny: ModelConfig) -> None:
    config = TrainConfig(qat_at=0.3, qat_bits=3, qat_activations=True, warmup_steps=5)
    assert not fake.is_late(0.2, 4, config)  # of the warmup
    assert fake.is_late(0.2, 5, config)
    assert not fake.is_late(0.3, 5, config)
    model = Transformer(tiny, 64)
    model.init_weights(1)
    with torch.no_grad():
        for _, p in model.kinds()["matrices"]:
            p.normal_(0, 0.3)
    ids = torch.arange(2, 66)[None]
    exact = model(ids)
    fake.set_rounding(model, config, True)
    rounded = model(ids)
    assert not torch.equal(rounded, exact)
    rounded.sum().backward()
    assert float(model.blocks[0].attention.wk.grad.abs().sum()) > 0
    fake.set_rounding(model, config, False)
    assert torch.equal(model(ids), exact)


def test_activations_are_rounded_as_the_engine_rounds() -> None:
    """The formulas of docs/NUMERICS.md, on integers."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-(1 << 20), 1 << 20, (5, 64), generator=generator)
    a = x.abs().amax(-1, keepdim=True)
    q = (x * ((127 << 24) // a) + (1 << 23)) >> 24
    vectors = (x * 2.0**-9).float().requires_grad_()
    found = fake.activation_map("blocks.0.mlp.hidden", vectors)
    difference = (found.detach() / (a * (2.0**-9 / 127)) - q).abs()
    assert difference.max() < 1.01  # where the floor of the document's R tells
    assert (difference > 0.01).float().mean() < 0.1
    found.square().sum().backward()
    assert torch.equal(vectors.grad, 2 * found.detach())  # as if nothing were rounded

    y = torch.randint(-9 << 9, 9 << 9, (5, 64), generator=generator)  # 9 fraction bits
    key = ((y + 16) >> 5).clamp(-127, 127)
    tie = y % 32 == 16  # torch rounds these to even
    for name in ("key", "query"):
        found = fake.activation_map(f"blocks.0.attention.{name}", y * 2.0**-9) * 2**4
        assert torch.equal(found[~tie], key[~tie].float())
    assert key.abs().max() == 127

    for size, bits in ((0.001, 14), (2.9, 5), (3.1, 4), (90.0, 0)):
        values = torch.linspace(-size, size, 9)
        found = fake.activation_map("blocks.0.attention.value", values) * 2.0**bits
        assert torch.equal(found, found.round())
        assert (found - values * 2**bits).abs().max() <= 0.5
    assert fake.activation_map("norm", x) is x  # of the final states


@pytest.mark.parametrize("cap", [15.0, 30.0])
def test_the_kernel_of_the_loss(cap: float) -> None:
    generator = torch.Generator().manual_seed(2)
    h = (torch.randn(70, 32, generator=generator) * 3).bfloat16()
    e = torch.randn(200, 32, generator=generator).bfloat16()
    e[0] *= 30  # far beyond the cap
    y = torch.randint(0, 200, (70,), generator=generator)
    nll, dh, de = loss_of._chunk_loss(h, e, y, cap)
    states, table = h.double().requires_grad_(), e.double().requires_grad_()
    z = states @ table.T
    z = z + (z.bfloat16() - z).detach()  # rounded as it is there
    expected = torch.nn.functional.cross_entropy(cap * torch.tanh(z / cap), y, reduction="sum")
    expected.backward()
    assert float(nll) == pytest.approx(float(expected), rel=1e-4)
    for found, exact in ((dh, states.grad), (de, table.grad)):
        assert float((found.double() - exact).norm() / exact.norm()) < 0.01


def test_the_kernel_keeps_what_is_not_a_number() -> None:
    h = torch.full((3, 8), float("nan"), dtype=torch.bfloat16)
    nll, _, _ = loss_of._chunk_loss(h, torch.ones(16, 8).bfloat16(), torch.zeros(3).long(), 30.0)
    assert torch.isnan(nll)


def test_micro_batches_add_up(tiny: ModelConfig, tokens: Path) -> None:
    data = rows_of.open_tokens(tokens, 64)
    x, y = rows_of.Rows(data.train, 64, 1).batch(0, 5)
    found = []
    for micro_rows in (0, 2):
        model = Transformer(tiny, 64)
        model.init_weights(1)
        loss = lm_train.gradients(model, model, x, y, micro_rows)
        found.append((loss, model.embedding.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    difference = (found[0][1] - found[1][1]).norm() / found[0][1].norm()
    assert float(difference) < 0.01


def write_shards(folder: Path, ids: Any) -> None:
    for split, parts in (("train", (ids[:9000], ids[9000:])), ("val", (ids[:2000],))):
        for index, part in enumerate(parts):
            path = folder / f"toy_{split}_{index:06d}.bin"
            path.write_bytes(shard_header(len(part)) + part.astype("<u2").tobytes())


def test_rows_of_shards_are_those_of_one_file(tokens: Path, tmp_path: Path) -> None:
    from pgolf_codec.lm.data.shards import TokenStream, split_paths

    ids = np.fromfile(tokens / "train.bin", "<u2")
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shards(folder, ids)
    stream = TokenStream(split_paths(folder, "train"))
    whole, cut = (rows_of.Rows(tokens, 64, 5) for tokens in (ids, stream))
    for step in (0, 40, 77):
        for a, b in zip(whole.batch(step, 4), cut.batch(step, 4), strict=True):
            assert torch.equal(a, b)
        for rank in (0, 1):
            _, mine = cut.batch(step, 4, slice(rank, None, 2))
            assert torch.equal(mine, b[rank::2])


def test_operations_are_counted_by_hand(tiny: ModelConfig) -> None:
    """Of layers each time they run; of the positions that each query sees in its window."""
    model = Transformer(dataclasses.replace(tiny, passes=(0, 1, 1)), 64)
    layer = 32 * 32 + 2 * 16 * 32 + 32 * 32 + 2 * 64 * 32
    weights = 3 * layer + 32 * 64 + 320 * 32  # and the pair table's projection, and the logits
    seen = sum(min(at + 1, window) for at in range(64) for window in (8, 16, 16)) / 64
    assert flops.flops_per_token(model, 64) == pytest.approx(6 * weights + 12 * seen * 32)


def test_what_a_log_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = run_log.RunLog(tmp_path, 0)
    log.write("seed:5")
    log.write(
        run_log.step_line(20, 100, "val_loss:2.5000 val_bpb:1.2500", 3.5),
        step=20,
        seconds=3.5,
        val_loss=2.5,
        val_bpb=1.25,
    )
    log.write(step=21, seconds=7.0, train_loss=2.4)
    assert capsys.readouterr().out.splitlines()[1] == (
        "step:20/100 val_loss:2.5000 val_bpb:1.2500 train_time:3500ms step_avg:175.00ms"
    )
    for name in ("log.txt", "metrics.jsonl"):
        read = read_log(tmp_path / name)
        assert (read.score.val_bpb, read.steps, read.train_ms) == (1.25, 20, 3500)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "trai')
    again = run_log.RunLog(tmp_path, 20)  # what came after the checkpoint is lost
    assert [row["step"] for row in run_log.read_metrics(tmp_path)] == [20]
    again.draw()
    root = ET.fromstring((tmp_path / "curve.svg").read_text())
    assert root.tag.endswith("svg")
    run_log.RunLog(None, 0).write("nothing", step=1)


def test_the_digest_is_of_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lm" / "training").mkdir(parents=True)
    monkeypatch.setattr(run_log.resources, "files", lambda package: tmp_path)
    digests = {run_log.source_digest()}
    for text in ("x = 1", "x = 2"):
        (tmp_path / "lm" / "training" / "loop.py").write_text(text)
        digests.add(run_log.source_digest())
    assert len(digests) == 3
    (tmp_path / "notes.txt").write_text("no source")
    assert run_log.source_digest() in digests


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    log = run_log.RunLog(tmp_path, 0)
    line = run_log.progress_line(
        progress=0.256, step=12, loss=3.14159, tokens_per_s=12345.6, mfu=0.321, left_s=3725
    )
    assert line == "train   26% step 12, loss 3.142, 12,346 tokens/s, MFU 32.1%, 1:02:05 left"
    log.progress(line)
    log.write("seed:5")
    assert terminal.getvalue() == f"\r\x1b[K{line}\r\x1b[K"


def test_charts() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(1.02, 1.31) == pytest.approx([1.05, 1.1, 1.15, 1.2, 1.25, 1.3])
    svg = line_chart(
        [Series("a < b", [(1, 2.0), (10, float("nan")), (100, 1.0)]), Series("c", [(5, 3)], True)],
        x_name="x",
        y_name="y",
        log_x=True,
    )
    root = ET.fromstring(svg)
    paths = [p.get("d", "") for p in root.iter() if p.tag.endswith("path") and p.get("fill")]
    assert [path.count("L") for path in paths] == [1]
    assert sum(p.tag.endswith("circle") for p in root.iter()) == 1
    assert "nan" not in svg
    assert line_chart([], x_name="x", y_name="y")
    assert json.dumps(svg)
