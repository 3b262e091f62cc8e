"""The integer model on a torch device.

The same integers as :mod:`pgolf_codec.lm.integers.engine`, bit for bit, on every device that
torch has; on the CPU it is slower than the other and there to be compared with it.
Streams advance in :mod:`pgolf_codec.lm.gpu.torch_lanes`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgolf_codec.errors import DeviceError
from pgolf_codec.lm.gpu import torch_ops as ops
from pgolf_codec.lm.gpu.torch_lanes import FusedLanes, Lanes, TorchSession
from pgolf_codec.lm.gpu.torch_ops import Matrix, WideMatrix
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.lm.integers.numerics import (
    COLUMN_BITS,
    COLUMN_FRAC,
    HEAD_FRAC,
    LOG2_E,
    LOGIT_FRAC,
    MIX_FRAC,
    NORM_FRAC,
    SCALE_BITS,
    SMEAR_BITS,
    TABLE_BITS,
    attention_output_bits,
)
from pgolf_codec.lm.integers.tables import cosine_table, sigmoid_table
from pgolf_codec.lm.integers.weights import IntegerWeights, activation_limit, multipliers


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
    parallel: bool
    """Whether the MLP reads what the attention reads."""
    exclusive: bool
    """Whether the attention's output loses its part along the own value."""
    added: Tensor | None
    """(G, K) int64: multipliers of the values' embedding."""
    gate: Matrix | None
    gate_bias: Tensor | None
    """(H) int64."""


@dataclass(frozen=True, slots=True)
class Table:
    """Vectors of 16 bits, and what they are multiplied with."""

    rows: Tensor
    """(rows, K) int16."""
    proj: WideMatrix

    def product(self, row: Tensor) -> Tensor:
        """(n, N) int64 of rows (n)."""
        return self.proj.product(self.rows[row])


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
        self.fused = self.fuses(device) if fused is None else fused
        self.config, self.fingerprint, self.device = c, fingerprint, device
        self.n_symbols = c.vocab_size
        residual = int(t["residual_frac"][0])
        self.residual_shift = residual - NORM_FRAC
        self.output_limit = activation_limit(c.n_heads * c.d_head)
        self.output_bits = attention_output_bits(self.output_limit)
        self.hidden_limit = activation_limit(c.d_hidden)
        self.leaky = c.activation == "leaky_relu2"
        self.cosine = self._tensor(cosine_table().astype(np.int64))
        self.sigmoid = self._tensor(sigmoid_table().astype(np.int64))
        self.phases = self._tensor(t["rope_phases"].astype(np.int64))
        head = "embedding" if c.tied else "head"
        inverse = t[f"{head}.s"].astype(np.float64) * 2.0**-NORM_FRAC / c.softcap
        self.cap_inverse = self._tensor(inverse.astype(np.float32))
        self.cap_scale = self._tensor(np.array(1024 * LOG2_E * c.softcap, np.float32))
        columns = t.get("embedding_columns", np.zeros(0, np.float16))
        self.head_columns = self._tensor(multipliers(columns, 0, 0, SMEAR_BITS))  # (D) or (0)
        self.head_limit = activation_limit(c.d_model)
        # Of normalised vectors all parts of the products are below 2**30.
        self.head = WideMatrix(t[f"{head}.q"], device, torch.int64 if columns.size else torch.int32)
        self.smear = self._tensor(multipliers(t["smear"], NORM_FRAC, residual, SMEAR_BITS))
        # What depends on one token or one pair only is computed once.
        factors: Tensor | int = 1 << 8
        if columns.size:
            factors = self._tensor(multipliers(columns, 32, COLUMN_FRAC, COLUMN_BITS))
        self.embedded = torch.cat(
            [
                ops.norm(rows * factors).to(torch.int16)
                for rows in torch.split(self._tensor(t["embedding.q"]).long(), 4096)
            ]
        )  # (V, D)
        self.pairs: Table | None = None
        if c.bigram_buckets:
            self.pairs = self._table(t, "bigram", "bigram_proj")
            scales = multipliers(t["bigram_proj.s"], NORM_FRAC, residual, SCALE_BITS)
            self.pair_multipliers = self._tensor(scales)
        self.values = self._table(t, "value_table", "value_proj") if c.value_layers else None
        skips = t["skips"] if c.n_skips else np.zeros((0, c.d_model), np.float16)
        self.skips = self._tensor(multipliers(skips, 32, MIX_FRAC, SCALE_BITS))  # (N, D)
        layers = [self._layer(t, i, residual) for i in range(c.n_layers)]
        self.passes = [layers[i] for i in c.order]

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
        added = gate = gate_bias = None
        if i in c.value_layers:
            m = multipliers(t[f"{name}.value.s"], NORM_FRAC, value, SCALE_BITS)
            added = self._tensor(m).view(c.n_kv_heads, c.d_head)
        if c.attention_gate:
            gate = self._matrix(t, f"{name}.gate", NORM_FRAC, LOGIT_FRAC)
            gate_bias = self._tensor(t[f"{name}.gate_bias"].astype(np.int64))
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
            parallel=i in c.parallel_layers,
            exclusive=i in c.xsa_layers,
            added=added,
            gate=gate,
            gate_bias=gate_bias,
        )

    def _matrix(self, t: dict[str, NDArray[Any]], name: str, frac_in: int, frac_out: int) -> Matrix:
        m = multipliers(t[f"{name}.s"], frac_in, frac_out, SCALE_BITS)
        return Matrix(t[f"{name}.q"], m, self.device)

    def _table(self, t: dict[str, NDArray[Any]], name: str, proj: str) -> Table:
        """A table's rows, scaled, and its matrix."""
        q = t[f"{name}.q"]
        limit = activation_limit(q.shape[1])
        m = multipliers(t[f"{name}.s"], 0, NORM_FRAC, TABLE_BITS)
        scaled = np.clip((q * m + (1 << 31)) >> 32, -limit, limit)
        return Table(self._tensor(scaled.astype(np.int16)), WideMatrix(t[f"{proj}.q"], self.device))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
