"""Thousands of streams in lock step on a device.

A :class:`Lanes` is a fixed number of streams; on CUDA its step is captured once as a
graph and replayed.  Of each step only a symbol's interval crosses to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.lm.config import BOS_ID
from pgolf_codec.lm.gpu import torch_ops as ops
from pgolf_codec.lm.gpu.torch_ops import Bytes, exact_dtype
from pgolf_codec.lm.integers.numerics import INT8_MAX, MIX_FRAC, RESIDUAL_LIMIT

if TYPE_CHECKING:
    from pgolf_codec.lm.gpu.torch_engine import Layer, TorchEngine

LANES = 32
"""The number of streams is rounded up to a multiple of this (see :class:`Matrix`)."""
HEAD_ROWS = 1024
"""Streams whose logits exist at one time."""
ENCODED_STEPS = 64
"""Steps of known symbols between two waits for the device."""


class Given(NamedTuple):
    """What every layer of one step is given."""

    x0: Tensor
    """(rows, D) int64: what the first layer got."""
    cosine: Tensor
    """(rows, R / 2) int64."""
    sine: Tensor
    values: Tensor | None
    """(rows, G, K) int64: products with the values' embedding."""


class Lanes:
    """``n`` streams on the device; each may start anew at any step.

    Rows of streams that nobody reads go on with whatever they find.
    """

    def __init__(self, engine: TorchEngine, n: int) -> None:
        c, device = engine.config, engine.device
        self.n, self._engine = n, engine
        rows = -(-n // LANES) * LANES
        groups, heads = c.n_kv_heads, c.d_head

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self._row = torch.arange(rows, device=device)
        self._previous = torch.full((rows,), BOS_ID, device=device)
        self._position = zeros(rows)
        self._last_id = zeros(rows)
        self._last_embedding = zeros(rows, c.d_model, dtype=torch.int16)
        self._keys, self._values = (
            [
                zeros(rows, groups, layer.window, heads, dtype=dtype)
                for layer, dtype in zip(engine.passes, dtypes, strict=True)
            ]
            for dtypes in self._ring_dtypes(engine)
        )
        self._inputs = zeros(2, rows)
        """Symbols to code, or points to look up; and whether a stream starts anew."""
        self._outputs = zeros(3, rows)
        """Symbols, cum, freq."""
        self._hidden = zeros(rows, c.d_model, dtype=torch.int16)
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}

    def _ring_dtypes(self, e: TorchEngine) -> tuple[list[torch.dtype], list[torch.dtype]]:
        """Of keys and of values, one a pass: what attention's products want."""
        of_keys = exact_dtype(INT8_MAX**2 * e.config.d_head)
        of_values = [exact_dtype(255 * INT8_MAX * layer.window) for layer in e.passes]
        return [of_keys] * len(of_values), of_values

    def encode(
        self, ids: NDArray[np.int32], restart: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Advance every stream over known symbols ``ids`` (t, n); ``restart`` (t, n) says
        which of them are the first of a new stream.  Returns (cum, freq), (t, n) uint32.
        """
        t = ids.shape[0]
        found = np.empty((2, t, self.n), np.uint32)
        for at in range(0, t, ENCODED_STEPS):
            part = slice(at, min(at + ENCODED_STEPS, t))
            inputs = self._to_device(ids[part], None if restart is None else restart[part])
            outputs = torch.empty(
                (inputs.shape[0], 2, inputs.shape[2]), dtype=torch.int64, device=inputs.device
            )
            for i in range(inputs.shape[0]):
                self._inputs.copy_(inputs[i])
                self._run("encode", self._encode_step)
                outputs[i].copy_(self._outputs[1:])
            found[:, part] = outputs[:, :, : self.n].transpose(0, 1).cpu().numpy()
        return found[0], found[1]

    def decode(
        self, points: NDArray[np.int64], restart: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Advance every stream by one symbol, the one whose interval holds ``points`` (n).

        Returns symbols, cum and freq, (3, n).
        """
        inputs = self._to_device(points[None], None if restart is None else restart[None])
        self._inputs.copy_(inputs[0])
        self._run("decode", self._decode_step)
        found: NDArray[np.int64] = self._outputs[:, : self.n].cpu().numpy()
        return found

    def take(self, symbols: NDArray[np.int32]) -> None:
        """Set the symbols (n) that the streams had last."""
        self._previous[: self.n] = torch.from_numpy(symbols.astype(np.int64)).to(self._row.device)

    def weights(self) -> Tensor:
        """Advance by the symbols last taken; the weights (n, V) of what follows them."""
        self._inputs[1].zero_()
        self._run("forward", self._forward)
        return torch.cat([self._weights(rows) for rows in self._blocks()])[: self.n]

    def _to_device(self, values: NDArray[Any], restart: NDArray[np.bool_] | None) -> Tensor:
        """(t, 2, rows) int64 of values and flags (t, n)."""
        inputs = np.zeros((values.shape[0], 2, self._row.numel()), np.int64)
        inputs[:, 0, : self.n] = values
        if restart is not None:
            inputs[:, 1, : self.n] = restart
        return torch.from_numpy(inputs).to(self._row.device)

    def _run(self, name: str, step: Callable[[], None]) -> None:
        """One step: as it is on the CPU, as a replayed graph on CUDA."""
        if self._row.device.type == "cpu":
            step()
            return
        with torch.cuda.device(self._row.device):  # where triton's kernels go
            if name not in self._graphs:
                self._graphs[name] = self._capture(step)
            self._graphs[name].replay()

    def _capture(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Record ``step``, whose kernels have to be loaded before."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._rehearse(step)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph

    def _rehearse(self, step: Callable[[], None]) -> None:
        """Run ``step`` twice to no effect.

        Of the rings it writes the newest slots only, which the next step writes again.
        """
        state = self._previous, self._position, self._last_id, self._last_embedding
        kept = [tensor.clone() for tensor in state]
        for _ in range(2):
            step()
            for tensor, value in zip(state, kept, strict=True):
                tensor.copy_(value)

    def _blocks(self) -> list[slice]:
        rows = self._row.numel()
        return [slice(at, min(at + HEAD_ROWS, rows)) for at in range(0, rows, HEAD_ROWS)]

    def _encode_step(self) -> None:
        self._forward()
        for rows in self._blocks():
            symbols = self._inputs[0, rows]
            cum, freq = ops.Intervals(self._weights(rows)).of(symbols)
            self._outputs[1, rows], self._outputs[2, rows] = cum, freq
        self._previous.copy_(self._inputs[0])

    def _decode_step(self) -> None:
        self._forward()
        for rows in self._blocks():
            intervals = ops.Intervals(self._weights(rows))
            symbols = intervals.at(self._inputs[0, rows])
            cum, freq = intervals.of(symbols)
            self._outputs[0, rows], self._outputs[1, rows], self._outputs[2, rows] = (
                symbols, cum, freq,
            )  # fmt: skip
        self._previous.copy_(self._outputs[0])

    def _weights(self, rows: slice) -> Tensor:
        """(rows, V) int32, of the last step."""
        e = self._engine
        return ops.symbol_weights(self._head_products(rows).int(), e.cap_inverse, e.cap_scale)

    def _head_products(self, rows: slice) -> Tensor:
        """(rows, V), each within 32 bits."""
        return self._engine.head.product(self._hidden[rows])

    def _forward(self) -> None:
        """All layers over the symbols that the streams had last."""
        e = self._engine
        x, given = self._embed(e)
        n_skips = len(e.skips)
        kept: list[Tensor] = []
        for j, layer in enumerate(e.passes):
            if n_skips <= j < 2 * n_skips:
                x = ops.mix(x, kept[2 * n_skips - 1 - j], 1 << MIX_FRAC, e.skips[j - n_skips])
            x = self._layer(j, layer, ops.mix(x, given.x0, layer.mix_x, layer.mix_x0), given)
            if j < n_skips:
                kept.append(x)
        y = ops.norm(x)
        if e.head_columns.numel():
            y = ops.scale_(y, e.head_columns).clamp_(-e.head_limit, e.head_limit)
        self._hidden.copy_(y)
        self._position.add_(1)

    def _embed(self, e: TorchEngine) -> tuple[Tensor, Given]:
        """x0 (rows, D) int64, and the same with all else that layers need; new streams begin
        here."""
        new = self._inputs[1] != 0
        token = torch.where(new, BOS_ID, self._previous)
        last_id = torch.where(new, 0, self._last_id)
        self._position.masked_fill_(new, 0)
        self._last_embedding.masked_fill_(new[:, None], 0)
        y = e.embedded[token]
        up = e.residual_shift
        x0 = y.long()
        x0 = x0 << up if up >= 0 else x0 >> -up
        x0.add_(ops.scale_(self._last_embedding.long(), e.smear))
        x0.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        if e.pairs is not None:
            pair = ((last_id * 40503 + token * 30011) & 0x7FFFFFFF) % e.pairs.rows.shape[0]
            x0.add_(ops.scale_(e.pairs.product(pair), e.pair_multipliers))
            x0.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        self._last_embedding.copy_(y)
        self._last_id.copy_(token)
        values = None
        if e.values is not None:
            values = e.values.product(token).view(-1, e.config.n_kv_heads, e.config.d_head)
        angles = (self._position[:, None] * e.phases) & 65535
        cosine, sine = torch.take(e.cosine, angles), torch.take(e.cosine, (angles - 16384) & 65535)
        return x0, Given(x0, cosine, sine, values)

    def _layer(self, j: int, layer: Layer, x: Tensor, given: Given) -> Tensor:
        """Pass ``j``, of x (rows, D) int64 that is mixed already; changes x."""
        e = self._engine
        y = ops.normalized_bytes(x)
        o = self._attention(j, layer, y, given)
        x.add_(layer.wo.scaled(ops.plain_bytes(o))).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        if not layer.parallel:
            y = ops.normalized_bytes(x)
        u = layer.up.scaled(y)
        u = ops.hidden_units(u, layer.square_shift, e.hidden_limit, leaky=e.leaky)
        x.add_(layer.down.scaled(ops.plain_bytes(u))).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        return x

    def _attention(self, j: int, layer: Layer, x: Bytes, given: Given) -> Tensor:
        """The outputs of all heads (rows, H K) int64."""
        e, c = self._engine, self._engine.config
        n_turned = c.n_heads + c.n_kv_heads
        a = layer.qkv.scaled(x).view(-1, n_turned + c.n_kv_heads, c.d_head)
        turned = ops.norm(a[:, :n_turned].clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT))
        turned = ops.keyed(ops.rotate(turned, given.cosine, given.sine))
        v = a[:, n_turned:].clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        if layer.added is not None and given.values is not None:
            more = ops.scale_(given.values.clone(), layer.added)
            v.add_(more.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT))
        v.clamp_(-INT8_MAX, INT8_MAX)
        keys, values = self._keys[j], self._values[j]
        q = turned[:, : c.n_heads].to(keys.dtype)
        q = q.reshape(-1, c.n_kv_heads, c.n_heads // c.n_kv_heads, c.d_head)
        slot = self._position % layer.window
        keys[self._row, :, slot] = turned[:, c.n_heads :].to(keys.dtype)
        values[self._row, :, slot] = v.to(values.dtype)
        count = (self._position + 1).clamp_(max=layer.window)
        o = ops.attend(q, keys, values, count, layer.gain, e.output_bits)
        if layer.exclusive:
            o = ops.leave_out(o, v[:, :, None], e.output_limit)
        if layer.gate is not None and layer.gate_bias is not None:
            gates = ops.gate(layer.gate.scaled(x).add_(layer.gate_bias), e.sigmoid)  # (rows, H)
            o = ops.times_gate(o, gates.view(*o.shape[:-1], 1))
        return o.view(-1, c.n_heads * c.d_head)


class FusedLanes(Lanes):
    """Lanes whose work between the products is done by :mod:`pgolf_codec.lm.gpu.triton_ops`."""

    def __init__(self, engine: TorchEngine, n: int) -> None:
        super().__init__(engine, n)
        c, rows, first = engine.config, self._row.numel(), engine.passes[0]

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=engine.device)

        self._x0, self._x = zeros(2, rows, c.d_model, dtype=torch.int32)
        self._scores = zeros(rows, c.n_heads, max(c.windows), dtype=torch.int32)
        self._attended = zeros(rows, c.n_heads * c.d_head, dtype=torch.int16)
        self._units = zeros(rows, c.d_hidden, dtype=torch.int16)
        self._bytes, self._attended_bytes, self._unit_bytes = (
            ops.Bytes(matrix.no_bytes(rows), zeros(rows, dtype=torch.int32))
            for matrix in (first.qkv, first.wo, first.down)
        )
        self._kept = zeros(len(engine.skips), rows, c.d_model, dtype=torch.int32)
        self._normed = engine.head.no_halves(rows)

    def _ring_dtypes(self, e: TorchEngine) -> tuple[list[torch.dtype], list[torch.dtype]]:
        return ([torch.int8] * len(e.passes),) * 2

    def _forward(self) -> None:
        from pgolf_codec.lm.gpu import triton_ops as fused

        e, n_skips = self._engine, len(self._engine.skips)
        x0, given = self._embed(e)
        self._x0.copy_(x0)
        self._x.copy_(x0)
        added = None
        for j, layer in enumerate(e.passes):
            skips = n_skips <= j < 2 * n_skips
            fused.residual(
                self._x, self._x0, self._bytes, added=added,
                kept=self._kept[j - 1] if 0 < j <= n_skips else None,
                skipped=(self._kept[2 * n_skips - 1 - j], e.skips[j - n_skips]) if skips else None,
                mixed=(layer.mix_x, layer.mix_x0),
            )  # fmt: skip
            self._fused_attention(j, layer, given)
            up = None
            if layer.parallel:  # before x, and with it its bytes, is another
                before = Bytes(self._bytes.q, self._bytes.factors.clone())
                up = fused.Product.of(layer.up, before)
            fused.to_bytes(self._attended, self._attended_bytes)
            added = fused.Product.of(layer.wo, self._attended_bytes)
            fused.residual(self._x, self._x0, self._bytes, added=added)
            up = up or fused.Product.of(layer.up, self._bytes)
            fused.activation(up, layer.square_shift, e.hidden_limit, self._units, leaky=e.leaky)
            fused.to_bytes(self._units, self._unit_bytes)
            added = fused.Product.of(layer.down, self._unit_bytes)
        columns = e.head_columns if e.head_columns.numel() else None
        fused.residual(
            self._x, self._x0, self._normed, added=added, columns=columns, limit=e.head_limit
        )
        self._position.add_(1)

    def _fused_attention(self, j: int, layer: Layer, given: Given) -> None:
        """The outputs of all heads from the bytes of x."""
        from pgolf_codec.lm.gpu import triton_ops as fused

        e, more, gate = self._engine, None, None
        if layer.added is not None and given.values is not None:
            more = ops.scale_(given.values.clone(), layer.added)
            more = more.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT).int()
        if layer.gate is not None and layer.gate_bias is not None:
            sums = layer.gate.sums(self._bytes.q)
            gate = fused.Gate(sums, layer.gate.multipliers, layer.gate_bias, e.sigmoid)
        fused.attention(
            fused.Product.of(layer.qkv, self._bytes), self._position, e.phases, e.cosine,
            layer.gain.view(-1), self._keys[j], self._values[j], self._scores, e.output_bits,
            self._attended, limit=e.output_limit, exclusive=layer.exclusive, added=more, gate=gate,
        )  # fmt: skip

    def _head_products(self, rows: slice) -> Tensor:
        return self._engine.head.of_halves(self._normed[:, rows].contiguous())


class TorchSession:
    """Lanes as the codec's sessions.  Satisfies ``codec.predictor.Session``."""

    def __init__(self, engine: TorchEngine, n_streams: int) -> None:
        self._lanes = engine.lanes(n_streams)
        self._weights: Tensor | None = None
        """Of the next symbol, if the streams have got that far."""

    def intervals(self, ids: NDArray[np.int32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
        known = 0
        if self._weights is not None and ids.shape[1] > 0:
            first = torch.from_numpy(ids[:, 0].astype(np.int64)).to(self._weights.device)
            interval = ops.Intervals(self._weights).of(first)
            cum[:, 0], freq[:, 0] = (bound.cpu().numpy() for bound in interval)
            self._lanes.take(ids[:, 0])
            self._weights, known = None, 1
        found = self._lanes.encode(ids[:, known:].T)
        cum[:, known:], freq[:, known:] = found[0].T, found[1].T
        return cum, freq

    def weights(self, previous: NDArray[np.int32] | None) -> NDArray[np.uint32]:
        if previous is not None:
            if self._weights is None:  # known symbols, not seen by the state
                self._lanes.weights()
            self._lanes.take(previous)
            self._weights = None
        if self._weights is None:
            self._weights = self._lanes.weights()
        weights: NDArray[np.uint32] = self._weights.cpu().numpy().astype(np.uint32)
        return weights
