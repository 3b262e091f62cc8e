"""Attention, MLP, and the block of both, in floating point.  Shapes: see :class:`ModelConfig`."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf_codec.lm.floats.attention import attend
from pgolf_codec.lm.floats.part import Part
from pgolf_codec.lm.model_config import ModelConfig

OPEN_GATE = 4.0
"""A gate's bias before training: sigmoid(4) is 0.98."""


class Given(NamedTuple):
    """What every layer of one pass through the model is given."""

    x0: Tensor
    """(B, T, D): what the first layer got."""
    cos: Tensor
    """(T, R / 2)."""
    sin: Tensor
    values: Tensor | None
    """(B, T, G * K): the token's embedding for values, before the layer's scale."""
    documents: Tensor | None
    """(B, T): the number of the document."""
    way: str
    """Of computing attention."""


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + R/2) of the first R dimensions of (..., T, K)."""
    half = cos.size(-1)
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos, rest), dim=-1)


def without_own_value(o: Tensor, v: Tensor) -> Tensor:
    """Heads (B, H, T, K) without their parts along the position's own values (B, G, T, K).

    Exclusive self-attention: a head tells of other positions only.
    """
    b, h, t, k = o.shape
    grouped = o.view(b, v.size(1), h // v.size(1), t, k)
    own = F.normalize(v.float(), dim=-1).to(v.dtype)[:, :, None]
    along = (grouped * own).sum(-1, keepdim=True)
    return (grouped - along * own).view(b, h, t, k)


class Attention(Part):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config.weights, config.weight_group)
        self.config, self.window = config, config.windows[layer]
        d, k, rank = config.d_model, config.d_head, config.attention_rank
        self.declare("wq", config.n_heads * k, d, rank)
        self.declare("wk", config.n_kv_heads * k, d, rank)
        self.declare("wv", config.n_kv_heads * k, d, rank)
        self.declare("wo", d, config.n_heads * k, rank)
        self.gain = nn.Parameter(torch.full((config.n_heads,), 1.5))
        self.scale = nn.Parameter(torch.ones(d))
        self.exclusive = layer in config.xsa_layers
        if layer in config.value_layers:
            self.value_scale = nn.Parameter(torch.full((1,), 0.1))
        if config.attention_gate:
            self.gate = nn.Parameter(torch.zeros(config.n_heads, d))
            self.gate_bias = nn.Parameter(torch.full((config.n_heads,), OPEN_GATE))

    def forward(self, x: Tensor, given: Given) -> Tensor:
        c, (b, t, _) = self.config, x.shape

        def heads(a: Tensor) -> Tensor:
            return a.view(b, t, -1, c.d_head).transpose(1, 2)  # (B, n, T, K)

        def turned(name: str) -> Tensor:
            y = heads(self.project(x, name))
            return rotate(rms_norm(y) if c.qk_norm else y, given.cos, given.sin)

        q = self.rounded(turned("wq"), "query") * self.gain[:, None, None]
        k = self.rounded(turned("wk"), "key")
        v = self.project(x, "wv")
        if given.values is not None and hasattr(self, "value_scale"):
            v = v + self.value_scale.to(v.dtype) * given.values
        v = self.rounded(heads(v), "value")
        o = attend(q.to(v.dtype), k.to(v.dtype), v, self.window, given.documents, given.way)
        if self.exclusive:
            o = without_own_value(o, v)
        if c.attention_gate:
            gates = torch.sigmoid(F.linear(x, self.gate, self.gate_bias.to(x.dtype)))  # (B, T, H)
            o = o * gates.transpose(1, 2)[..., None]
        o = self.rounded(o.transpose(1, 2).reshape(b, t, c.n_heads * c.d_head), "attended")
        return self.project(o, "wo") * self.scale


class MLP(Part):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.weights, config.weight_group)
        self.slope = 0.5 if config.activation == "leaky_relu2" else 0.0
        self.declare("up", config.d_hidden, config.d_model, config.mlp_rank)
        self.declare("down", config.d_model, config.d_hidden, config.mlp_rank)
        self.scale = nn.Parameter(torch.ones(config.d_model))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.project(x, "up"), self.slope).square()
        return self.project(self.rounded(h, "hidden"), "down") * self.scale


class Block(Part):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        d = config.d_model
        self.norm_scale = (layer + 1) ** -0.5 if config.norm_scale else 1.0
        self.parallel = layer in config.parallel_layers
        self.mix = nn.Parameter(torch.stack((torch.ones(d), torch.zeros(d))))
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, given: Given) -> Tensor:
        x = self.mix[0] * x + self.mix[1] * given.x0
        y = self.normalised(x)
        if self.parallel:
            both: Tensor = self.attention(y, given) + self.mlp(y)
            return x + both
        x = x + self.attention(y, given)
        out: Tensor = self.mlp(self.normalised(x))
        return x + out

    def normalised(self, x: Tensor) -> Tensor:
        return self.rounded(rms_norm(x), "norm") * self.norm_scale
