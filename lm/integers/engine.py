"""The integer model as a predictor: sessions of lock-step streams.

The arithmetic is in :mod:`pgolf_codec.lm.integers.kernels`; here its parameters are laid
out, and memory is owned.  No torch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.adaptation import NO_STAGE
from pgolf_codec.codec.compiled import Flat, Kernel, flat
from pgolf_codec.codec.frequencies import interval
from pgolf_codec.codec.memory import aligned, empty, zeros
from pgolf_codec.codec.range_coder import Decoder
from pgolf_codec.codec.range_coder import State as Coder
from pgolf_codec.lm.config import BOS_ID, ModelConfig
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.lm.integers import layout
from pgolf_codec.lm.integers.layout import (
    Buffers,
    Heads,
    Params,
    Room,
    State,
    Strips,
    byte_room,
    key_block_bytes,
    pack,
    padded,
    scratch_bytes,
    strip_slots,
)
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

ROWS = 256
"""Rows that a block of known symbols is cut into; no effect on results."""

NO_IDS, NO_BOUNDS = np.empty((0, 0), np.int32), np.empty((0, 0), np.uint32)
NO_CODER = Decoder([], np.empty(0, np.int64)).state
"""For the uses of :func:`kernels.run` that have none."""
_run = Kernel("pgolf_codec.lm.integers.kernels", "run")


class Engine:
    """An immutable model, ready to run.  Satisfies ``codec.predictor.Predictor``."""

    numerics_version = NUMERICS_VERSION
    encodes_alone = True

    def __init__(self, weights: IntegerWeights, fingerprint: bytes) -> None:
        self.config = weights.config
        self.fingerprint = fingerprint
        self.n_symbols = weights.config.vocab_size
        self.params = flat(aligned(make_params(weights)))

    def session(self, n_streams: int) -> EngineSession:
        return EngineSession(self, n_streams)


class EngineSession:
    """The state of ``n_streams`` streams.  Satisfies ``codec.predictor.Session``."""

    has_stage: Literal[True] = True

    def __init__(self, engine: Engine, n_streams: int) -> None:
        c, self._params = engine.config, engine.params
        self._state = make_state(c, n_streams)
        self._flat_state = flat(self._state)
        self._flat_buffers = flat(make_buffers(c, max(ROWS, n_streams)))
        self._pending = np.full((n_streams, 1), BOS_ID, np.int32)
        self._ahead = False  # whether the state has seen self._pending: what follows is known
        self._weights = empty((n_streams, c.vocab_size), np.uint32)

    def intervals(
        self, ids: NDArray[np.int32], stage: Flat = NO_STAGE
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        n, t = ids.shape
        inputs = np.concatenate((self._pending, ids), axis=1).astype(np.int32)
        cum, freq = np.empty((n, t), np.uint32), np.empty((n, t), np.uint32)
        if self._ahead and t > 0:
            for i in range(n):
                cum[i, 0], freq[i, 0] = interval(self._weights[i], ids[i, 0])
        for lane in range(n):  # one after the other: a lane's keys and values stay in the cache
            for start in range(int(self._ahead), t, ROWS):
                stop = min(start + ROWS, t)
                one = slice(lane, lane + 1)
                self._run(
                    lane, inputs[one, start:stop], inputs[one, start + 1 : stop + 1],
                    cum[one, start:stop], freq[one, start:stop], stage=stage,
                )  # fmt: skip
        self._pending = inputs[:, -1:].copy()
        self._ahead = self._ahead and t == 0
        return cum, freq

    def weights(self, previous: NDArray[np.int32] | None) -> NDArray[np.uint32]:
        if previous is not None:
            if not self._ahead:  # known symbols, not seen by the state
                self._step()
            self._pending[:, 0] = previous
            self._ahead = False
        if not self._ahead:
            self._step()
        return self._weights

    def decode(self, decoder: Decoder, n_steps: int, stage: Flat = NO_STAGE) -> NDArray[np.int32]:
        decoded = np.empty((len(self._pending), n_steps), np.int32)
        first = int(self._ahead)
        if self._ahead:
            decoded[:, 0] = self._pending[:, 0] = decoder.step(self._weights)
            self._ahead = False
        if first < n_steps:
            rest = np.empty((len(decoded), n_steps - first), np.int32)
            decoder.check(
                self._run(0, self._pending, coder=decoder.state, decoded=rest, stage=stage)
            )
            decoded[:, first:] = rest
        return decoded

    def _step(self) -> None:
        self._run(0, self._pending)
        self._ahead = True

    def _run(
        self,
        lane: int,
        ids: NDArray[np.int32],
        targets: NDArray[np.int32] = NO_IDS,
        cum: NDArray[np.uint32] = NO_BOUNDS,
        freq: NDArray[np.uint32] = NO_BOUNDS,
        coder: Coder = NO_CODER,
        decoded: NDArray[np.int32] = NO_IDS,
        stage: Flat = NO_STAGE,
    ) -> bool:
        return bool(
            _run(
                self._params, self._flat_state, lane, ids, targets, self._flat_buffers, cum, freq,
                self._weights, coder, decoded, stage,
            )
        )  # fmt: skip


def make_params(w: IntegerWeights) -> Params:
    c, t = w.config, w.tensors
    residual = int(t["residual_frac"][0])

    def matrix_m(name: str, frac_in: int, frac_out: int) -> NDArray[np.int32]:
        m = multipliers(t[f"{name}.s"], frac_in, frac_out, SCALE_BITS)
        return np.pad(m, (0, padded(m.size) - m.size)).astype(np.int32)

    def per_layer(name: str) -> NDArray[np.int8]:
        return np.stack([pack(t[f"blocks.{i}.{name}.q"]) for i in range(c.n_layers)])

    qkv_m, wo_m, up_m, down_m, mix_m, gain = [], [], [], [], [], []
    added_m, gate_m, gate_bias = [], [], []
    kv = c.n_kv_heads * c.d_head
    output_bits = attention_output_bits(activation_limit(c.n_heads * c.d_head))
    for i in range(c.n_layers):
        value, up = int(t["value_frac"][i]), int(t["up_frac"][i])
        hidden = 2 * up - int(t["square_shift"][i])
        name = f"blocks.{i}"
        qkv = matrix_m(f"{name}.qkv", NORM_FRAC, HEAD_FRAC)
        first = c.n_heads * c.d_head + kv
        qkv[first : first + kv] = matrix_m(f"{name}.qkv", NORM_FRAC, value)[first : first + kv]
        qkv_m.append(qkv)
        wo_m.append(matrix_m(f"{name}.wo", value + output_bits, residual))
        up_m.append(matrix_m(f"{name}.up", NORM_FRAC, up))
        down_m.append(matrix_m(f"{name}.down", hidden, residual))
        mix_m.append(multipliers(t[f"{name}.mix"], 32, MIX_FRAC, SCALE_BITS))
        gain.append(t[f"{name}.gain"].astype(np.int64))
        scales = t.get(f"{name}.value.s", np.zeros(kv, np.float16))
        added_m.append(multipliers(scales, NORM_FRAC, value, SCALE_BITS).astype(np.int32))
        if c.attention_gate:
            gate_m.append(matrix_m(f"{name}.gate", NORM_FRAC, LOGIT_FRAC)[: c.n_heads])
            gate_bias.append(t[f"{name}.gate_bias"])
    bigram, values = c.bigram_buckets > 0, bool(c.value_layers)
    order = list(c.order)
    windows = [c.windows[i] for i in order]
    slots = [strip_slots(window) for window in windows]
    head = "embedding" if c.tied else "head"
    skips = t["skips"] if c.n_skips else np.zeros((0, c.d_model), np.float16)
    columns = t.get("embedding_columns", np.zeros(0, np.float16))
    embedding_m = multipliers(columns, 32, COLUMN_FRAC, COLUMN_BITS)
    return Params(
        heads=Heads(
            n_heads=c.n_heads,
            n_kv_heads=c.n_kv_heads,
            d_head=c.d_head,
            output_bits=output_bits,
            output_limit=activation_limit(c.n_heads * c.d_head),
            gain=np.stack(gain)[order],
            qkv_m=np.stack(qkv_m)[order],
            windows=np.array(windows, np.int64),
            added=np.array([i in c.value_layers for i in order], np.int64),
            exclusive=np.array([i in c.xsa_layers for i in order], np.int64),
            slots=np.array(slots, np.int64),
            first_slot=np.cumsum([0, *slots[:-1]]).astype(np.int64),
            phases=t["rope_phases"].astype(np.int64),
            cosine=cosine_table(),
        ),
        hidden_limit=activation_limit(c.d_hidden),
        bigram_limit=activation_limit(c.bigram_dim) if bigram else 0,
        residual_frac=residual,
        embedding=t["embedding.q"],
        embedding_m=embedding_m.astype(np.int32)
        if columns.size
        else np.full(c.d_model, 1 << 8, np.int32),
        head=pack(t[f"{head}.q"]),
        head_in_m=multipliers(columns, 0, 0, SMEAR_BITS),
        head_limit=activation_limit(c.d_model),
        head_m=(t[f"{head}.s"].astype(np.float64) * 2.0**-NORM_FRAC / c.softcap).astype(np.float32),
        smear_m=multipliers(t["smear"], NORM_FRAC, residual, SMEAR_BITS),
        bigram=t["bigram.q"] if bigram else np.zeros((0, 0), np.int8),
        bigram_m=multipliers(t["bigram.s"], 0, NORM_FRAC, TABLE_BITS)
        if bigram
        else np.zeros(0, np.int64),
        proj=pack(t["bigram_proj.q"] if bigram else np.zeros((0, 2), np.int8)),
        proj_m=matrix_m("bigram_proj", NORM_FRAC, residual) if bigram else np.zeros(0, np.int32),
        mix_m=np.stack(mix_m).astype(np.int32),
        qkv=per_layer("qkv"),
        wo=per_layer("wo"),
        wo_m=np.stack(wo_m),
        up=per_layer("up"),
        up_m=np.stack(up_m),
        down=per_layer("down"),
        down_m=np.stack(down_m),
        square_shift=t["square_shift"].astype(np.int64),
        cap=np.array([1024 * LOG2_E * c.softcap], np.float32),
        order=np.array(order, np.int64),
        kept=-1 if c.activation == "leaky_relu2" else 0,
        parallel=np.array([i in c.parallel_layers for i in order], np.int64),
        one=np.full(c.d_model, 1 << MIX_FRAC, np.int32),
        skip_m=multipliers(skips, 32, MIX_FRAC, SCALE_BITS).astype(np.int32),
        value=t["value_table.q"] if values else np.zeros((0, 0), np.int8),
        value_m=multipliers(t["value_table.s"], 0, NORM_FRAC, TABLE_BITS)
        if values
        else np.zeros(0, np.int64),
        value_limit=activation_limit(c.value_dim) if values else 0,
        value_proj=pack(t["value_proj.q"] if values else np.zeros((0, 2), np.int8)),
        added_m=np.stack(added_m),
        gate=per_layer("gate") if c.attention_gate else np.zeros((0, 0, 0), np.int8),
        gate_m=np.stack(gate_m) if gate_m else np.zeros((0, 0), np.int32),
        gate_bias=np.stack(gate_bias) if gate_bias else np.zeros((0, 0), np.int32),
        sigmoid=sigmoid_table(),
    )


def make_state(c: ModelConfig, n_streams: int) -> State:
    """Of streams that have seen nothing."""
    slots = sum(strip_slots(c.windows[i]) for i in c.order)
    block = key_block_bytes(c.d_head)
    return State(
        position=zeros(n_streams, np.int64),
        last_id=zeros(n_streams, np.int32),
        last_embedding=zeros((n_streams, c.d_model), np.int16),
        strips=Strips(
            keys=zeros((n_streams, c.n_kv_heads, slots // 32 * block), np.int8),
            values=zeros((n_streams, c.n_kv_heads, slots * padded(c.d_head)), np.int8),
            origin=zeros((n_streams, len(c.order)), np.int64),
        ),
    )


def make_buffers(c: ModelConfig, rows: int) -> Buffers:
    q, kv, share = c.n_heads * c.d_head, c.n_kv_heads * c.d_head, c.n_heads // c.n_kv_heads
    seen, longest = layout.POSITIONS * share, strip_slots(max(c.windows))
    inner = max(c.d_model, c.bigram_dim, c.value_dim)
    return Buffers(
        room=Room(
            cos=empty((rows, c.rope_dims // 2), np.int32),
            sin=empty((rows, c.rope_dims // 2), np.int32),
            head=empty((seen + layout.POSITIONS, c.d_head), np.int32),
            inverse=empty(seen + layout.POSITIONS, np.int64),
            key=empty((layout.POSITIONS, c.d_head), np.int8 if layout.QUADS else np.int16),
            q=byte_room(seen, c.d_head),
            scores=empty((seen, longest), np.int32),
            shares=byte_room(seen, longest),
            sums=empty((seen, padded(c.d_head)), np.int32),
            totals=empty(seen, np.int64),
            attended=empty((rows, q), np.int16),
            added=empty((rows, kv), np.int32),
            own=empty((layout.POSITIONS, c.d_head), np.int32),
        ),
        x0=empty((rows, c.d_model), np.int32),
        x=empty((rows, c.d_model), np.int32),
        y=empty((rows, c.d_model), np.int16),
        bigram=empty((rows, c.bigram_dim), np.int16),
        value=empty((rows, c.value_dim), np.int16),
        factors=empty(rows, np.int32),
        out_factors=empty(rows, np.int32),
        y8=byte_room(rows, c.d_model),
        attended8=byte_room(rows, q),
        hidden8=byte_room(rows, c.d_hidden),
        acc_d=empty((rows, padded(c.d_model)), np.int32),
        acc_qkv=empty((rows, padded(q + 2 * kv)), np.int32),
        acc_value=empty((rows, padded(kv)), np.int32),
        acc_gate=empty((rows, padded(c.n_heads)), np.int32),
        skips=empty((c.n_skips, rows, c.d_model), np.int32),
        acc_up=empty((rows, padded(c.d_hidden)), np.int32),
        hidden=empty((rows, c.d_hidden), np.int16),
        logits=empty((layout.HEAD_ROWS, padded(c.vocab_size)), np.int32),
        weights=empty(c.vocab_size, np.uint32),
        scratch=empty(scratch_bytes(rows, inner), np.int8),
    )
