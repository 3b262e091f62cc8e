"""The model in floating point, for training.

The integer inference of the same graph is ``lm/integers/engine.py``; ``docs/NUMERICS.md``
tells what each line here becomes there, ``docs/MODEL.md`` what each switch is.
Shapes: see :class:`ModelConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.config import INITS
from pgolf_codec.lm.floats.attention import WAYS
from pgolf_codec.lm.floats.blocks import Block, Given, rms_norm
from pgolf_codec.lm.floats.loss import fused_cross_entropy
from pgolf_codec.lm.floats.part import Map, Part
from pgolf_codec.lm.graph import PHASES, bigram_bucket, rope_phases
from pgolf_codec.lm.model_config import BOS_ID, ModelConfig

TABLES = ("embedding", "bigram", "value_table")
HEADS = ("head", "mtp")
MATRICES = ("wq", "wk", "wv", "wo", "up", "down")
PROJECTIONS = ("bigram_proj", "embedding_proj", "head_proj", "value_proj")
ZERO_AT_FIRST = ("wo", "down", *HEADS)
"""A layer adds nothing, and untied heads tell nothing, before they are trained."""


def rope_tables(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, rope_dims / 2)."""
    phases = torch.tensor(rope_phases(config), dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * phases * (2 * math.pi / PHASES)
    return angle.cos().float(), angle.sin().float()


def kind_of(name: str) -> str:
    """Of a parameter by its name: ``matrices``, ``tables``, ``heads`` or ``scalars``."""
    last = name.split(".")[-1]
    if last in TABLES:
        return "tables"
    if last in HEADS:
        return "heads"
    return "matrices" if last.removesuffix("_in") in MATRICES + PROJECTIONS else "scalars"


class Transformer(Part):
    """Token ids (B, T) to final states (B, T, D), and states to logits or to a loss."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, max_len: int) -> None:
        super().__init__()
        self.config, self.way = config, "auto"
        c, v, d = config, config.vocab_size, config.d_model
        self.embedding = nn.Parameter(torch.empty(v, c.embedding_rank or d))
        if c.embedding_rank:
            self.declare("embedding_proj", d, c.embedding_rank)
        if not c.tied:
            self.declare(
                *(("head_proj", d, c.embedding_rank) if c.embedding_rank else ("head", v, d))
            )
        if c.smear != "none":
            self.smear = nn.Parameter(torch.zeros(d))
        if c.bigram_buckets:
            self.bigram = nn.Parameter(torch.zeros(c.bigram_buckets, c.bigram_dim))
            self.declare("bigram_proj", d, c.bigram_dim)
        if c.value_layers:
            self.value_table = nn.Parameter(torch.zeros(v, c.value_dim))
            self.declare("value_proj", c.n_kv_heads * c.d_head, c.value_dim)
        if c.n_skips:
            self.skips = nn.Parameter(torch.ones(c.n_skips, d))
        self.blocks = nn.ModuleList(Block(c, i) for i in range(c.n_layers))
        if c.mtp_heads:
            self.mtp = nn.Parameter(torch.zeros(c.mtp_heads, v, d))
        cos, sin = rope_tables(c, max_len)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, module in self.named_modules():
            if name and isinstance(module, Part):
                module.name = f"{name}."

    def init_weights(
        self,
        seed: int,
        *,
        init: str = "normal",
        embedding_std: float = 0.02,
        qk_gain: float = 1.5,
    ) -> None:
        """Matrices are normal with rows of length one, about, or orthogonal; see ZERO_AT_FIRST."""
        if init not in INITS:
            raise ConfigError(f"init {init!r} is not in {INITS}")
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            last = name.split(".")[-1]
            if last in TABLES:
                nn.init.normal_(p, std=embedding_std, generator=generator)
            elif last == "gain":
                nn.init.constant_(p, qk_gain)
            elif kind_of(name) == "matrices" and last not in ZERO_AT_FIRST:
                if init == "orthogonal":
                    nn.init.orthogonal_(p, generator=generator)
                else:
                    nn.init.normal_(p, std=p.size(1) ** -0.5, generator=generator)

    def kinds(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Parameters by :func:`kind_of`: what different optimizers take."""
        out: dict[str, list[tuple[str, nn.Parameter]]] = {
            kind: [] for kind in ("matrices", "tables", "heads", "scalars")
        }
        for name, p in self.named_parameters():
            out[kind_of(name)].append((name, p))
        return out

    def set_attention(self, way: str) -> None:
        """How attention is computed, of :data:`WAYS`."""
        if way not in WAYS:
            raise ConfigError(f"attention {way!r} is not in {WAYS}")
        self.way = way

    def set_weight_map(self, weight_map: Map | None) -> None:
        """Every matrix and table is replaced by ``weight_map(name, it)`` where it is used."""
        for part in self._parts():
            part.weight_map = weight_map

    def set_activation_map(self, activation_map: Map | None) -> None:
        """The same for activations that are of few bits in the engine, by the names of
        :meth:`Part.rounded` behind that of the module."""
        for part in self._parts():
            part.activation_map = activation_map

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        given = self.given(ids, x)
        n = self.config.n_skips
        skipped: list[Tensor] = []
        for j, layer in enumerate(self.config.order):
            if n <= j < 2 * n:
                x = x + self.skips[j - n] * skipped[2 * n - 1 - j]
            x = self.blocks[layer](x, given)
            if j < n:
                skipped.append(x)
        return self.rounded(rms_norm(x), "norm")

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T, D): what the first layer gets."""
        c = self.config
        x = F.embedding(ids, self.weight("embedding"))
        if c.embedding_rank:
            x = self.project(x, "embedding_proj")
        x = rms_norm(x)
        first = ids == BOS_ID if c.document_mask else None
        if c.smear != "none":
            previous = F.pad(x, (0, 0, 1, 0))[:, :-1]
            if first is not None:
                previous = previous.masked_fill(first[..., None], 0.0)
            if c.smear == "gate":
                gate = torch.sigmoid(self.smear)
                x = (1 - gate) * x + gate * previous
            else:
                x = x + self.smear * previous
        if c.bigram_buckets:
            before = F.pad(ids, (1, 0))[:, :-1]
            if first is not None:
                before = before.masked_fill(first, 0)
            pairs = bigram_bucket(before, ids, c.bigram_buckets)
            x = x + self.project(F.embedding(pairs, self.weight("bigram")), "bigram_proj")
        return x

    def given(self, ids: Tensor, x0: Tensor) -> Given:
        """What the layers need to know of the tokens."""
        c, t = self.config, ids.size(1)
        values = None
        if c.value_layers:
            values = self.project(F.embedding(ids, self.weight("value_table")), "value_proj")
        documents = (ids == BOS_ID).cumsum(1) if c.document_mask else None
        return Given(x0, self.cos[:t], self.sin[:t], values, documents, self.way)

    def logits(self, states: Tensor) -> Tensor:
        """(..., V) float32 of states (..., D)."""
        matrix = self.head_matrix()
        z = F.linear(self.head_inputs(states), matrix.to(states.dtype)).float()
        return self.config.softcap * torch.tanh(z / self.config.softcap)

    def head_matrix(self) -> Tensor:
        """(V, D), or (V, rank) of a factored embedding: rows that :meth:`head_inputs` are
        multiplied with."""
        return self.weight(
            "embedding" if self.config.tied or self.config.embedding_rank else "head"
        )

    def head_inputs(self, states: Tensor) -> Tensor:
        """(..., D) or (..., rank) of states (..., D)."""
        if not self.config.embedding_rank:
            return states
        matrix = self.weight("embedding_proj" if self.config.tied else "head_proj")
        return states @ matrix.to(states.dtype)

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean nats of ``targets`` (B, T), which follow ``ids``; with those of further tokens
        while training, if there are heads for them."""
        return self.loss_of(self(ids), targets)

    def loss_of(self, states: Tensor, targets: Tensor) -> Tensor:
        """:meth:`loss` of states (B, T, D); products are in autocast's type, if that is on."""
        cap, device = self.config.softcap, states.device.type
        if torch.is_autocast_enabled(device):
            states = states.to(torch.get_autocast_dtype(device))
        inputs = self.head_inputs(states).to(states.dtype).flatten(0, 1)
        loss = fused_cross_entropy(inputs, self.head_matrix(), targets.flatten(), cap)
        if not (self.training and self.config.mtp_heads):
            return loss
        further = [
            fused_cross_entropy(
                states[:, :-ahead].flatten(0, 1), head, targets[:, ahead:].flatten(), cap
            )
            for ahead, head in enumerate(self.mtp, start=1)
        ]
        return loss + self.config.mtp_weight * torch.stack(further).mean()

    def _parts(self) -> Iterator[Part]:
        return (module for module in self.modules() if isinstance(module, Part))
