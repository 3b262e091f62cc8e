"""A torch device as the codec's :class:`~pgolf_codec.codec.lane_coder.Device`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from pgolf_codec.codec.model import Model
from pgolf_codec.errors import DeviceError
from pgolf_codec.lm.config import ModelConfig
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.gpu.torch_lanes import LANES, Lanes
from pgolf_codec.lm.integers.weights import IntegerWeights

if TYPE_CHECKING:
    from pgolf_codec.quant.artifact import LoadedModel

MAX_LANES = {"cpu": 256, "cuda": 16384}
"""More streams than this are not faster."""
MEMORY_SHARE = 0.7
"""Of a GPU's memory, what lanes may fill."""


class TorchDevice:
    """Keeps the last model on the device, and its lanes.  Threads take turns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._engine: TorchEngine | None = None
        self._lanes: Lanes | None = None
        self._lock = threading.Lock()

    def max_lanes(self, model: Model) -> int:
        """By the device's memory; a multiple of 16."""
        most = MAX_LANES[self.device.type]
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
            config = _weights(model).config
            fused = TorchEngine.fuses(self.device)
            fitting = int(MEMORY_SHARE * memory) // lane_bytes(config, fused)
            most = min(most, max(LANES, fitting // LANES * LANES))
        return most

    @contextlib.contextmanager
    def lanes(self, model: Model, n: int) -> Iterator[Lanes]:
        with self._lock:
            try:
                engine = self._on_device(model)
                if self._lanes is None or not n <= self._lanes.n <= 2 * n + LANES:
                    self._lanes = None  # frees its memory first
                    self._lanes = engine.lanes(-(-n // LANES) * LANES)
                yield self._lanes
            except torch.OutOfMemoryError:
                self._lanes = None
                raise DeviceError(f"{self.device}: out of memory with {n} streams") from None

    def _on_device(self, model: Model) -> TorchEngine:
        fingerprint = model.predictor.fingerprint
        if self._engine is None or self._engine.fingerprint != fingerprint:
            self._engine = self._lanes = None
            self._engine = TorchEngine(_weights(model), fingerprint, self.device)
        return self._engine


def lane_bytes(c: ModelConfig, fused: bool) -> int:
    """Memory of one lane, about: rings of int8 or floats, and what a step makes of int64."""
    rings = (2 if fused else 12) * sum(c.windows[i] for i in c.order) * c.n_kv_heads * c.d_head
    widths = (
        (12 + c.n_skips) * c.d_model
        + 6 * c.d_hidden
        + 4 * (c.n_heads + 2 * c.n_kv_heads) * c.d_head
    )
    scores = (0.5 if fused else 6) * c.n_heads * max(c.windows)
    return rings + 8 * int(widths + scores)


def _weights(model: Model | LoadedModel) -> IntegerWeights:
    artifact = getattr(model, "artifact", None)
    if artifact is None:
        raise DeviceError(f"model {model.name} has no artifact whose weights a device could take")
    weights: IntegerWeights = artifact.weights
    return weights
