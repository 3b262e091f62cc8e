"""The graph of a model, as data.

A :class:`ModelConfig` is part of the artifact: it is all that the integer inference
needs, beside the integers themselves, to know the graph.  ``docs/MODEL.md`` has a table
of its switches: whose they are, and what becomes of each in integers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from pgolf_codec.errors import ConfigError
from pgolf_codec.lm.fields import from_table, to_plain

BOS_ID = 1
"""Start of a stream: "nothing is known of what came before"."""

ACTIVATIONS = ("leaky_relu2", "relu2")
SMEARS = ("add", "gate", "none")
WEIGHTS = ("float", "ternary", "binary")
MAX_PASSES = 64


ONLY_FOR_TRAINING: dict[str, Any] = {
    "weights": "float",
    "weight_group": 0,
    "qk_norm": True,
    "smear": "add",
    "norm_scale": False,
    "attention_rank": 0,
    "mlp_rank": 0,
    "embedding_rank": 0,
    "document_mask": False,
    "mtp_heads": 0,
    "mtp_weight": 0.2,
}
"""Switches that a model in integers has not, and what they are there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The graph of a decoder-only transformer.

    Legend used in shape comments: B streams, T positions, V vocabulary,
    D width, H query heads, G key/value heads, K head dimension, F hidden width.

    What follows ``softcap`` is a switch each, off by default.
    """

    vocab_size: int
    """V: rows of the embedding, control ids included."""
    n_layers: int
    """Blocks that have weights of their own; see ``passes``."""
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    """K: must be even."""
    d_hidden: int
    """F: hidden width of the MLP."""
    windows: tuple[int, ...]
    """Positions that a layer's attention sees, itself included; one a layer."""
    rope_dims: int
    """The first ``rope_dims`` of each head's K dimensions are rotated."""
    rope_base: float = 1000.0
    bigram_buckets: int = 0
    """Rows of the hashed table of (previous, current) token pairs; 0 is none."""
    bigram_dim: int = 0
    softcap: float = 30.0
    """Logits are ``softcap * tanh(logit / softcap)``."""

    activation: str = "leaky_relu2"
    """The square of a hidden unit below zero is a quarter of what it is above, or 0 (``relu2``)."""
    tied: bool = True
    """Whether the matrix of the logits is the embedding."""
    embedding_rank: int = 0
    """The embedding is a table of that width times a matrix; 0 is a table of width D.
    Untied, the logits have a matrix of their own and the same table."""
    embedding_columns: bool = False
    """In integers, a tied embedding has a scale a column beside those of its rows."""
    smear: str = "add"
    """The previous token's embedding joins each: a vector times it is added (``add``); both
    are weighed, by 1 - sigmoid and sigmoid of a vector (``gate``); or not at all (``none``)."""
    norm_scale: bool = False
    """Normalised inputs of layer i are divided by sqrt(i + 1)."""
    unet: bool = False
    """The second half of the passes adds the results of the first half, last one first, each
    times a vector."""
    passes: tuple[int, ...] = ()
    """Numbers of the layers in the order in which they run; () is each once, in order."""
    parallel_layers: tuple[int, ...] = ()
    """Layers whose MLP reads what their attention reads."""
    value_layers: tuple[int, ...] = ()
    """Layers whose values have an embedding of the token added."""
    value_dim: int = 0
    """Width of the one table of those embeddings, which a matrix maps to G * K."""
    qk_norm: bool = True
    """Whether each head's keys and queries are RMS-normalised; if not, there are no integers."""
    xsa_layers: tuple[int, ...] = ()
    """Layers whose attention's output loses its part along the position's own value."""
    attention_gate: bool = False
    """The output of each head is multiplied by the sigmoid of a linear function of the input."""
    attention_rank: int = 0
    """Matrices of attention are products of two, of that inner width; 0 is full rank."""
    mlp_rank: int = 0
    """The same for those of the MLP."""
    weights: str = "float"
    """Weights of the layers' matrices: ``float``, ``ternary`` or ``binary`` times a scale a row."""
    weight_group: int = 0
    """Such a scale for every so many weights of a row, of which there are no integers; 0 is all."""
    document_mask: bool = False
    """Nothing before the last BOS is seen; a stream of the codec has only its first."""
    mtp_heads: int = 0
    """Heads that predict further tokens while the model is trained, and are then dropped."""
    mtp_weight: float = 0.2
    """Of the mean of their losses beside that of the next token."""

    def __post_init__(self) -> None:
        def need(ok: bool, why: str) -> None:
            if not ok:
                raise ConfigError(f"model config: {why}")

        def need_layers(name: str) -> None:
            layers = getattr(self, name)
            need(
                all(0 <= i < self.n_layers for i in layers) and len(set(layers)) == len(layers),
                f"{name} {layers} are not different layers below {self.n_layers}",
            )

        need(4 <= self.vocab_size <= 65536, f"vocab_size {self.vocab_size} is not in 4..65536")
        need(1 <= self.n_layers <= 64, f"n_layers {self.n_layers} is not in 1..64")
        need(8 <= self.d_model <= 4096, f"d_model {self.d_model} is not in 8..4096")
        need(1 <= self.n_heads <= 64, f"n_heads {self.n_heads} is not in 1..64")
        need(
            1 <= self.n_kv_heads <= self.n_heads and self.n_heads % self.n_kv_heads == 0,
            f"n_kv_heads {self.n_kv_heads} does not divide n_heads {self.n_heads}",
        )
        need(self.d_head in range(2, 257, 2), f"d_head {self.d_head} is not even, in 2..256")
        need(8 <= self.d_hidden <= 8192, f"d_hidden {self.d_hidden} is not in 8..8192")
        need(
            len(self.windows) == self.n_layers and all(1 <= w <= 8192 for w in self.windows),
            f"windows {self.windows} are not n_layers lengths in 1..8192",
        )
        need(
            self.rope_dims in range(0, self.d_head + 1, 2),
            f"rope_dims {self.rope_dims} is not even, in 0..d_head",
        )
        need(1.0 < self.rope_base <= 1e6, f"rope_base {self.rope_base} is not in 1..1e6")
        need(
            (self.bigram_buckets == 0) == (self.bigram_dim == 0)
            and 0 <= self.bigram_buckets <= 1 << 20
            and 0 <= self.bigram_dim <= 4096,
            f"bigram table {self.bigram_buckets} x {self.bigram_dim} is not possible",
        )
        evens = (self.d_model, self.d_hidden, self.bigram_dim, self.value_dim)
        need(not any(n % 2 for n in evens), f"widths {evens} are not even")
        need(1.0 <= self.softcap <= 100.0, f"softcap {self.softcap} is not in 1..100")
        for name, known in (("activation", ACTIVATIONS), ("smear", SMEARS), ("weights", WEIGHTS)):
            need(getattr(self, name) in known, f"{name} {getattr(self, name)!r} is not in {known}")
        need(self.tied or not self.embedding_columns, "embedding_columns are of a tied embedding")
        for name in ("embedding_rank", "attention_rank", "mlp_rank"):
            rank = getattr(self, name)
            need(0 <= rank <= 4096, f"{name} {rank} is not in 0..4096")
        need(
            all(0 <= i < self.n_layers for i in self.passes)
            and (not self.passes or set(self.passes) == set(range(self.n_layers)))
            and len(self.passes) <= MAX_PASSES,
            f"passes {self.passes} are not each of {self.n_layers} layers at least once, "
            f"{MAX_PASSES} in all at most",
        )
        for name in ("parallel_layers", "value_layers", "xsa_layers"):
            need_layers(name)
        need(
            bool(self.value_layers) == (self.value_dim > 0) and self.value_dim <= 4096,
            f"value_dim {self.value_dim} does not go with value_layers {self.value_layers}",
        )
        need(
            self.weights == "float" or not (self.attention_rank or self.mlp_rank),
            f"{self.weights} weights can't be of low rank: the product is not {self.weights}",
        )
        inner = (self.d_model, self.n_heads * self.d_head, self.d_hidden)
        need(
            self.weight_group == 0
            or (self.weights != "float" and not any(n % self.weight_group for n in inner)),
            f"weight_group {self.weight_group} does not divide rows {inner} of few levels",
        )
        need(0 <= self.mtp_heads <= 8, f"mtp_heads {self.mtp_heads} is not in 0..8")
        need(0.0 <= self.mtp_weight <= 10.0, f"mtp_weight {self.mtp_weight} is not in 0..10")

    @property
    def order(self) -> tuple[int, ...]:
        """The number of the layer of each pass."""
        return self.passes or tuple(range(self.n_layers))

    @property
    def n_skips(self) -> int:
        """Passes whose results others add."""
        return len(self.order) // 2 if self.unet else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of :meth:`from_dict`; without the switches that are off."""
        fields = dataclasses.fields(self)
        n_always = [f.name for f in fields].index("softcap") + 1
        return {
            f.name: to_plain(getattr(self, f.name))
            for i, f in enumerate(fields)
            if i < n_always or getattr(self, f.name) != f.default
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raise :class:`ConfigError` on unknown, missing or ill-typed keys."""
        return from_table(cls, values, "model config")


def default(name: str) -> Any:
    """Of a switch: off."""
    return next(f.default for f in dataclasses.fields(ModelConfig) if f.name == name)
