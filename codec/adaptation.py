"""Learning from a stream while it is coded: an adaptive stage behind the model.

The model's weights of each symbol pass through the stage before the symbol is coded, and the
stage learns from the symbol afterwards.  It is a function of the stream's own past alone, in
integers and elementwise binary32, so that encoder and decoder go the same way on every
machine.  docs/FORMAT.md, "Adaptation", is the specification.

Two things are learned, from nothing in each stream: how much more or less often each symbol
comes than the model says (its *bias*); and what came before after the last one to six symbols,
or at this column of the text.  The latter are *candidates*, which get their probabilities from
a mixer of logistic units; what is left goes to all others as the model has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.compiled import Kernel, flat
from pgolf_codec.codec.memory import empty, zeros
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.predictor import Predictor, Session, StagedSession, encodes_alone
from pgolf_codec.codec.range_coder import Decoder
from pgolf_codec.codec.range_coder import State as Coder
from pgolf_codec.codec.tokenizer import Tokenizer

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]

ORDERS = (1, 2, 3, 4, 6)
"""Symbols that a context is made of; one more context is the column."""
COLUMN = len(ORDERS)
"""Its number among the contexts."""
N_CONTEXTS = len(ORDERS) + 1
N_COLUMNS = 256
HISTORY = 8
"""Symbols that are kept; a power of two."""
LOG2_ROWS = 15
"""Each context has a table of so many rows."""
SLOTS = 7
"""Symbols that a row remembers."""
ROW = 16
"""uint16: check, symbols, how often each came, nothing."""
MAX_BY_ORDER, MAX_CANDIDATES = 8, 10
INPUTS = 2 + N_CONTEXTS
"""Of the mixer: the model's opinion, that of each context, a constant."""
RANKS, BANDS = 4, 4
LEVELS = 8
"""Of counts."""

_FIRST_WEIGHTS = (65536, 57344, 49152, 45056, 28672, 73728)
"""Of the model's opinion, for the candidates of each context; 2**16 is one."""
_FIRST_WEIGHT = 6554
"""Of the other opinions."""
_FOR = (0, 1, 2, 3, 4, 5, 8, 16)
_AGAINST = (0, 1, 2, 3, 4, 6, 11, 20)
"""Counts that the levels stand for at first."""


class State(NamedTuple):
    """What the stage knows of n streams, and what it keeps from a question to its answer."""

    widths: I32  # (V) bytes that a symbol adds to the column, or -1 - the column after it
    history: I32  # (n, HISTORY)
    position: I64  # (n)
    column: I64  # (n)
    bias: F32  # (n, V)
    shares: F32  # (n, V) the last weights times their bias
    rate: F32  # (n, 2) of the step that is due, and of the one that the next symbol brings
    rows: U16  # (n, N_COLUMNS + COLUMN * 2**LOG2_ROWS, ROW): of columns, then as they are needed
    n_rows: I64  # (n)
    places: I32  # (n, COLUMN, 2**LOG2_ROWS): which of the rows, or 0
    chances: I32  # (n, N_CONTEXTS, LEVELS * LEVELS) in units of 2**-16
    by_context: I32  # (n, N_CONTEXTS * RANKS, INPUTS) in units of 2**-16
    by_band: I32  # (n, BANDS * RANKS, INPUTS)
    row: I64  # (n, N_CONTEXTS) of rows, that each context has now
    n_candidates: I64  # (n)
    candidates: I32  # (n, MAX_CANDIDATES)
    sets: I32  # (n, MAX_CANDIDATES, 2) rows of by_context and by_band
    inputs: I32  # (n, MAX_CANDIDATES, INPUTS) in units of 2**-10
    cells: I32  # (n, MAX_CANDIDATES, N_CONTEXTS) of chances, or -1
    odds: I32  # (n, MAX_CANDIDATES) in units of 2**-16
    masses: I64  # (n, MAX_CANDIDATES) in units of 2**-30
    weights: U32  # (n, V) of the next symbol


def new_state(widths: I32, n_streams: int) -> State:
    """Of streams that have seen nothing."""
    n, v, k = n_streams, widths.size, MAX_CANDIDATES
    by_context = np.full((n, N_CONTEXTS * RANKS, INPUTS), _FIRST_WEIGHT, np.int32)
    by_context[:, :, 0] = np.repeat(_FIRST_WEIGHTS, RANKS)
    by_band = np.full((n, BANDS * RANKS, INPUTS), _FIRST_WEIGHT, np.int32)
    by_band[:, :, 0] = 1 << 16
    by_context[:, :, -1] = by_band[:, :, -1] = 0
    chances = np.empty((n, N_CONTEXTS, LEVELS * LEVELS), np.int32)
    chances[:] = _first_chances()
    bias = empty((n, v), np.float32)
    bias[:] = 1
    return State(
        widths=widths,
        history=np.zeros((n, HISTORY), np.int32),
        position=np.zeros(n, np.int64),
        column=np.zeros(n, np.int64),
        bias=bias,
        shares=zeros((n, v), np.float32),
        rate=np.zeros((n, 2), np.float32),
        rows=zeros((n, N_COLUMNS + COLUMN * (1 << LOG2_ROWS), ROW), np.uint16),  # few are touched
        n_rows=np.full(n, N_COLUMNS, np.int64),
        places=zeros((n, COLUMN, 1 << LOG2_ROWS), np.int32),
        chances=chances,
        by_context=by_context,
        by_band=by_band,
        row=np.zeros((n, N_CONTEXTS), np.int64),
        n_candidates=np.zeros(n, np.int64),
        candidates=np.zeros((n, k), np.int32),
        sets=np.zeros((n, k, 2), np.int32),
        inputs=np.zeros((n, k, INPUTS), np.int32),
        cells=np.zeros((n, k, N_CONTEXTS), np.int32),
        odds=np.zeros((n, k), np.int32),
        masses=np.zeros((n, k), np.int64),
        weights=zeros((n, v), np.uint32),
    )


def _first_chances() -> I32:
    """(LEVELS * LEVELS,): (a + 1/4) / (a + b + 1), a of the level for and b of that against."""
    a, b = np.array(_FOR)[:, None], np.array(_AGAINST)[None, :]
    chances: I32 = (65536 * (4 * a + 1) // (4 * (a + b + 1))).astype(np.int32).ravel()
    return chances


@lru_cache(maxsize=8)
def _widths(table: tuple[bytes, ...]) -> I32:
    """(V,) for ``State.widths``: what each symbol does to the column."""
    after = [
        -1 - len(entry.rpartition(b"\n")[2]) if b"\n" in entry else len(entry) for entry in table
    ]
    return np.array(after, np.int32)


_code = Kernel("pgolf_codec.codec.adaptation_kernels", "code")
_learn = Kernel("pgolf_codec.codec.adaptation_kernels", "learn_all")
_NO_WEIGHTS, _NO_SYMBOLS = np.empty((0, 0), np.uint32), np.empty(0, np.int32)
_NO_BOUNDS = np.empty(0, np.uint32)
_NO_CODER: Coder = Decoder([], np.empty(0, np.int64)).state
NO_STAGE = flat(new_state(np.empty(0, np.int32), 0))


def adapted(model: Model) -> AdaptedModel:
    """The model with the stage behind it."""
    return model if isinstance(model, AdaptedModel) else AdaptedModel(model)


def plain(model: Model) -> Model:
    """The model without a stage."""
    return model.base if isinstance(model, AdaptedModel) else model


@dataclass(frozen=True, slots=True)
class AdaptedModel:
    """Satisfies :class:`~pgolf_codec.codec.model.Model`; frames that it codes say so."""

    base: Model

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self.base.tokenizer

    @property
    def predictor(self) -> AdaptedPredictor:
        return AdaptedPredictor(self.base.predictor, _widths(self.base.tokenizer.table))

    @property
    def n_bytes(self) -> int:
        return self.base.n_bytes


@dataclass(frozen=True, slots=True)
class AdaptedPredictor:
    """Satisfies :class:`~pgolf_codec.codec.predictor.Predictor`."""

    base: Predictor
    widths: I32

    @property
    def n_symbols(self) -> int:
        return self.base.n_symbols

    @property
    def fingerprint(self) -> bytes:
        return self.base.fingerprint

    @property
    def numerics_version(self) -> int:
        return self.base.numerics_version

    @property
    def encodes_alone(self) -> bool:
        return encodes_alone(self.base)

    def session(self, n_streams: int) -> AdaptedSession:
        return AdaptedSession(self.base.session(n_streams), new_state(self.widths, n_streams))


class AdaptedSession:
    """Satisfies :class:`~pgolf_codec.codec.predictor.DecodingSession`."""

    def __init__(self, base: Session, state: State) -> None:
        self._base = base
        self._staged = base if isinstance(base, StagedSession) else None
        self._weights = state.weights
        self._state = flat(state)
        self._asked = False  # whether self._weights are those of the next symbol
        self._untold: I32 | None = None  # symbols that the base has not been told

    def intervals(self, ids: I32) -> tuple[U32, U32]:
        if self._staged is not None and not self._asked and self._untold is None:
            return self._staged.intervals(ids, self._state)
        cum, freq = np.empty(ids.shape, np.uint32), np.empty(ids.shape, np.uint32)
        self._asked = False
        for step in range(ids.shape[1]):
            weights, self._untold = self._base_weights(), ids[:, step].copy()
            for lane in range(len(ids)):
                bounds = cum[lane, step : step + 1], freq[lane, step : step + 1]
                one = slice(lane, lane + 1)
                _code(self._state, lane, weights[one], self._untold[one], *bounds, _NO_CODER)
        return cum, freq

    def weights(self, previous: I32 | None) -> U32:
        if previous is not None:
            self._ask()
            self._untold = previous.astype(np.int32)
            _learn(self._state, self._untold)
            self._asked = False
        self._ask()
        return self._weights

    def decode(self, decoder: Decoder, n_steps: int) -> I32:
        if self._staged is not None and not self._asked and self._untold is None:
            return self._staged.decode(decoder, n_steps, self._state)
        ids = np.empty((len(self._weights), n_steps), np.int32)
        self._asked = False
        for step in range(n_steps):
            weights = self._base_weights()
            decoder.check(
                bool(
                    _code(
                        self._state, 0, weights, _NO_SYMBOLS, _NO_BOUNDS, _NO_BOUNDS, decoder.state
                    )
                )
            )
            ids[:, step] = self._untold = decoder.state.symbols.copy()
        return ids

    def _ask(self) -> None:
        if not self._asked:
            weights = self._base_weights()
            _code(self._state, 0, weights, _NO_SYMBOLS, _NO_BOUNDS, _NO_BOUNDS, _NO_CODER)
            self._asked = True

    def _base_weights(self) -> U32:
        weights = np.ascontiguousarray(self._base.weights(self._untold))
        self._untold = None
        return weights
