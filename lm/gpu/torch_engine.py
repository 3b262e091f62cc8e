"""The integer model on torch: thousands of streams in lock step on a GPU.

The same integers as :mod:`pgolf_codec.lm.integers.engine`, bit for bit, on every device that
torch has; on the CPU it is slower than the other and there to be compared with it.
A :class:`Lanes` is a fixed number of streams; on CUDA its step is captured once as a
graph and replayed.  Of each step only a symbol's interval crosses to the host.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.errors import DeviceError
from pgolf_codec.lm.config import BOS_ID, ModelConfig
from pgolf_codec.lm.gpu import torch_ops as ops
from pgolf_codec.lm.gpu.torch_ops import Matrix, WideMatrix, exact_dtype
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.lm.integers.numerics import (
    HEAD_FRAC,
    INT8_MAX,
    LOG2_E,
    MIX_FRAC,
    NORM_FRAC,
    RESIDUAL_LIMIT,
    SCALE_BITS,
    SMEAR_BITS,
    TABLE_BITS,
    UNIT_RMS,
    attention_output_bits,
)
from pgolf_codec.lm.integers.tables import cosine_table
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit, multipliers
from pgolf_codec.lm.model_config import default

ONLY_ON_THE_CPU = (
    *("activation", "tied", "unet", "passes", "parallel_layers"),
    *("value_layers", "xsa_layers", "attention_gate"),
)
"""Switches that :mod:`pgolf_codec.lm.integers.engine` knows, and this module does not."""

LANES = 32
"""The number of streams is rounded up to a multiple of this (see :class:`Matrix`)."""
HEAD_ROWS = 1024
"""Streams whose logits exist at one time."""
ENCODED_STEPS = 64
"""Steps of known symbols between two waits for the device."""


def open_device(name: str) -> torch.device:
    """The device called ``cuda``, ``cuda:1`` or ``torch-cpu``.

    Raises :class:`DeviceError` if torch has no such device.
    """
    try:
        device = torch.device("cpu" if name == "torch-cpu" else name)
    except RuntimeError:
        raise DeviceError(f"{name!r} is no device: try cuda, cuda:0 or torch-cpu") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device {name!r}: only CUDA devices do exact 64-bit arithmetic here")
    if not torch.cuda.is_available():
        built = "is built without CUDA" if torch.version.cuda is None else "finds no GPU"
        raise DeviceError(f"device {name!r}: this torch ({torch.__version__}) {built}")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", index)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's tensors on the device; names as in docs/NUMERICS.md."""

    mix_x: Tensor  # (D) int64
    mix_x0: Tensor
    qkv: Matrix
    gain: Tensor  # (G, H / G, 1) int64
    wo: Matrix
    up: Matrix
    down: Matrix
    square_shift: int
    window: int


class TorchEngine:
    """An immutable model on a device.  Satisfies ``codec.predictor.Predictor``."""

    numerics_version = NUMERICS_VERSION

    def __init__(
        self,
        weights: IntegerWeights,
        fingerprint: bytes,
        device: torch.device,
        *,
        fused: bool | None = None,
    ) -> None:
        """``fused``: whether the kernels of :mod:`triton_ops` are used; None is where they can."""
        c, t = weights.config, weights.tensors
        if parts := [name for name in ONLY_ON_THE_CPU if getattr(c, name) != default(name)]:
            raise DeviceError(
                f"the model's {parts[0]} has no integers on devices yet, only on a CPU"
            )
        self.fused = self.fuses(device) if fused is None else fused
        self.config, self.fingerprint, self.device = c, fingerprint, device
        self.n_symbols = c.vocab_size
        residual = int(t["residual_frac"][0])
        self.residual_shift = residual - NORM_FRAC
        self.output_bits = attention_output_bits(activation_limit(c.n_heads * c.d_head))
        self.hidden_limit = activation_limit(c.d_hidden)
        self.cosine = self._tensor(cosine_table().astype(np.int64))
        self.phases = self._tensor(t["rope_phases"].astype(np.int64))
        inverse = t["embedding.s"].astype(np.float64) * 2.0**-NORM_FRAC / c.softcap
        self.cap_inverse = self._tensor(inverse.astype(np.float32))
        self.cap_scale = self._tensor(np.array(1024 * LOG2_E * c.softcap, np.float32))
        # Of normalised vectors all parts of the products are below 2**30.
        self.head = WideMatrix(t["embedding.q"], device, torch.int32)
        self.smear = self._tensor(multipliers(t["smear"], NORM_FRAC, residual, SMEAR_BITS))
        # What depends on one token or one pair only is computed once.
        self.embedded = torch.cat(
            [
                ops.norm(rows.long() << 8).to(torch.int16)
                for rows in torch.split(self._tensor(t["embedding.q"]), 4096)
            ]
        )  # (V, D)
        self.proj, self.pairs = None, self.embedded[:0]
        if c.bigram_buckets:
            self.proj = WideMatrix(t["bigram_proj.q"], device)
            scales = multipliers(t["bigram_proj.s"], NORM_FRAC, residual, SCALE_BITS)
            self.proj_multipliers = self._tensor(scales)
            self.pairs = self._pair_table(t)
        self.layers = [self._layer(t, i, residual) for i in range(c.n_layers)]

    @staticmethod
    def fuses(device: torch.device) -> bool:
        """Whether :mod:`triton_ops` can be used."""
        has_triton = importlib.util.find_spec("triton") is not None
        return device.type == "cuda" and has_triton and ops.int8_products_hold(device)

    def session(self, n_streams: int) -> TorchSession:
        return TorchSession(self, n_streams)

    def lanes(self, n_lanes: int) -> Lanes:
        return FusedLanes(self, n_lanes) if self.fused else Lanes(self, n_lanes)

    def _layer(self, t: dict[str, NDArray[Any]], i: int, residual: int) -> Layer:
        c, name = self.config, f"blocks.{i}"
        value, up, shift = (int(t[n][i]) for n in ("value_frac", "up_frac", "square_shift"))
        qkv = multipliers(t[f"{name}.qkv.s"], NORM_FRAC, HEAD_FRAC, SCALE_BITS)
        values = (c.n_heads + c.n_kv_heads) * c.d_head
        qkv[values:] = multipliers(t[f"{name}.qkv.s"], NORM_FRAC, value, SCALE_BITS)[values:]
        mix = self._tensor(multipliers(t[f"{name}.mix"], 32, MIX_FRAC, SCALE_BITS))
        gain = self._tensor(t[f"{name}.gain"].astype(np.int64))
        return Layer(
            mix_x=mix[0],
            mix_x0=mix[1],
            qkv=Matrix(t[f"{name}.qkv.q"], qkv, self.device),
            gain=gain.view(c.n_kv_heads, -1, 1),
            wo=self._matrix(t, f"{name}.wo", value + self.output_bits, residual),
            up=self._matrix(t, f"{name}.up", NORM_FRAC, up),
            down=self._matrix(t, f"{name}.down", 2 * up - shift, residual),
            square_shift=shift,
            window=c.windows[i],
        )

    def _matrix(self, t: dict[str, NDArray[Any]], name: str, frac_in: int, frac_out: int) -> Matrix:
        m = multipliers(t[f"{name}.s"], frac_in, frac_out, SCALE_BITS)
        return Matrix(t[f"{name}.q"], m, self.device)

    def _pair_table(self, t: dict[str, NDArray[Any]]) -> Tensor:
        """Rows of the pair table, scaled: (B, Db) int16."""
        m = multipliers(t["bigram.s"], 0, NORM_FRAC, TABLE_BITS)
        limit = activation_limit(self.config.bigram_dim)
        scaled = (t["bigram.q"] * m + (1 << 31)) >> 32
        return self._tensor(np.clip(scaled, -limit, limit).astype(np.int16))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


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
                zeros(rows, groups, w, heads, dtype=dtype)
                for w, dtype in zip(c.windows, dtypes, strict=True)
            ]
            for dtypes in self._ring_dtypes(c)
        )
        self._inputs = zeros(2, rows)
        """Symbols to code, or points to look up; and whether a stream starts anew."""
        self._outputs = zeros(3, rows)
        """Symbols, cum, freq."""
        self._hidden = zeros(rows, c.d_model, dtype=torch.int16)
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}

    def _ring_dtypes(self, c: ModelConfig) -> tuple[list[torch.dtype], list[torch.dtype]]:
        """Of keys and of values, one a layer: what attention's products want."""
        of_keys = exact_dtype(INT8_MAX**2 * c.d_head)
        return [of_keys] * c.n_layers, [exact_dtype(255 * INT8_MAX * w) for w in c.windows]

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
        return ops.symbol_weights(self._head_products(rows), e.cap_inverse, e.cap_scale)

    def _head_products(self, rows: slice) -> Tensor:
        """(rows, V) int32."""
        return self._engine.head.product(self._hidden[rows])

    def _forward(self) -> None:
        """All layers over the symbols that the streams had last."""
        e = self._engine
        x0 = self._embed(e)
        angles = (self._position[:, None] * e.phases) & 65535
        cosine, sine = torch.take(e.cosine, angles), torch.take(e.cosine, (angles - 16384) & 65535)
        x = x0
        for i, layer in enumerate(e.layers):
            x = (x * layer.mix_x).add_(x0 * layer.mix_x0)
            x.add_(1 << (MIX_FRAC - 1)).bitwise_right_shift_(MIX_FRAC)
            x.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            o = self._attention(i, layer, x, cosine, sine)
            x.add_(layer.wo.scaled(o, UNIT_RMS)).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            u = layer.up.scaled(x, ops.rms(x))
            u = ops.leaky_square(u, layer.square_shift, e.hidden_limit)
            x.add_(layer.down.scaled(u, UNIT_RMS)).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        self._hidden.copy_(ops.norm(x))
        self._position.add_(1)

    def _embed(self, e: TorchEngine) -> Tensor:
        """x0 (rows, D) int64; new streams begin here."""
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
        if e.proj is not None:
            pair = ((last_id * 40503 + token * 30011) & 0x7FFFFFFF) % e.pairs.shape[0]
            x0.add_(ops.scale_(e.proj.product(e.pairs[pair]), e.proj_multipliers))
            x0.clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        self._last_embedding.copy_(y)
        self._last_id.copy_(token)
        return x0

    def _attention(self, i: int, layer: Layer, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """The outputs of all heads (rows, H K) int64."""
        e, c = self._engine, self._engine.config
        a = layer.qkv.scaled(x, ops.rms(x)).view(-1, c.n_heads + 2 * c.n_kv_heads, c.d_head)
        both = a[:, : c.n_heads + c.n_kv_heads].clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        both = ops.keyed(ops.rotate(ops.norm(both), cosine, sine))
        keys, values = self._keys[i], self._values[i]
        q = both[:, : c.n_heads].to(keys.dtype)
        q = q.reshape(-1, c.n_kv_heads, c.n_heads // c.n_kv_heads, c.d_head)
        slot = self._position % layer.window
        keys[self._row, :, slot] = both[:, c.n_heads :].to(keys.dtype)
        v = a[:, c.n_heads + c.n_kv_heads :].clamp_(-INT8_MAX, INT8_MAX)
        values[self._row, :, slot] = v.to(values.dtype)
        count = (self._position + 1).clamp_(max=layer.window)
        o = ops.attend(q, keys, values, count, layer.gain, e.output_bits)
        return o.view(-1, c.n_heads * c.d_head)


class FusedLanes(Lanes):
    """Lanes whose work between the products is done by :mod:`pgolf_codec.lm.gpu.triton_ops`."""

    def __init__(self, engine: TorchEngine, n: int) -> None:
        super().__init__(engine, n)
        c, rows, first = engine.config, self._row.numel(), engine.layers[0]

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
        self._normed = engine.head.no_halves(rows)

    def _ring_dtypes(self, c: ModelConfig) -> tuple[list[torch.dtype], list[torch.dtype]]:
        return ([torch.int8] * c.n_layers,) * 2

    def _forward(self) -> None:
        from pgolf_codec.lm.gpu import triton_ops as fused

        e = self._engine
        self._x0.copy_(self._embed(e))
        self._x.copy_(self._x0)
        added = None
        for i, layer in enumerate(e.layers):
            mixed = layer.mix_x, layer.mix_x0
            fused.residual(self._x, self._x0, self._bytes, added=added, mixed=mixed)
            fused.attention(
                fused.Product.of(layer.qkv, self._bytes), self._position, e.phases, e.cosine,
                layer.gain.view(-1), self._keys[i], self._values[i], self._scores,
                e.output_bits, self._attended,
            )  # fmt: skip
            fused.to_bytes(self._attended, self._attended_bytes)
            added = fused.Product.of(layer.wo, self._attended_bytes)
            fused.residual(self._x, self._x0, self._bytes, added=added)
            up = fused.Product.of(layer.up, self._bytes)
            fused.activation(up, layer.square_shift, e.hidden_limit, self._units)
            fused.to_bytes(self._units, self._unit_bytes)
            added = fused.Product.of(layer.down, self._unit_bytes)
        fused.residual(self._x, self._x0, self._normed, added=added)
        self._position.add_(1)

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
