"""Machine code of :mod:`adaptation`; docs/FORMAT.md, "Adaptation", says what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec.adaptation import (
    COLUMN,
    HISTORY,
    INPUTS,
    LEVELS,
    MAX_BY_ORDER,
    MAX_CANDIDATES,
    N_COLUMNS,
    N_CONTEXTS,
    ORDERS,
    RANKS,
    SLOTS,
    State,
)
from pgolf_codec.codec.coding_kernels import decode_symbol, interval
from pgolf_codec.codec.jit import inlined, jit
from pgolf_codec.codec.range_coder import State as Coder
from pgolf_codec.codec.vectors import F32, I32, I64, Turn, address, vector_loop
from pgolf_codec.lm.integers.tables import exp2_table, log2_table

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]

EXP2, LOG2 = exp2_table(), log2_table()
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.float32(0.08)
_LEAST, _MOST = np.float32(2.0**-10), np.float32(2.0**6)
_LIMIT = 14 << 10
"""Of opinions: 2**14 to one."""
_MAX_WEIGHT = 1 << 20
_MAX_COUNT = 250
_COUNTS = 1 + SLOTS
"""Where a row has its counts."""


@jit
def bit_length(v: int) -> int:
    n = 0
    x = np.uint64(v)
    for by in (32, 16, 8, 4, 2, 1):
        if x >> np.uint64(by):
            x >>= np.uint64(by)
            n += by
    return int(n + np.int64(x))


@jit
def log2(v: int) -> int:
    """In units of 2**-10, for 0 < v < 2**52."""
    n = bit_length(v) - 1
    return int((n << 10) + LOG2[((v << 10) >> n) & 1023])


@jit
def squash(x: int) -> int:
    """2**16 / (1 + 2**-x), |x| <= _LIMIT."""
    below = abs(x)
    small = np.int64(EXP2[below & 1023]) >> (below >> 10)
    q = (small << 16) // ((1 << 30) + small)
    return int(q if x < 0 else 65536 - q)


@jit
def level_for(n: int) -> int:
    return n if n < 6 else (6 if n < 12 else 7)


@jit
def level_against(n: int) -> int:
    return n if n < 5 else (5 if n < 8 else (6 if n < 16 else 7))


@vector_loop("u32 f32 f32 u32 float32", (I64, 0, "add"))
def _biased(t: Turn, a: list[Any], total: list[Any]) -> list[Any]:
    """The step that is due, then weights times their bias; the sum of what comes out.

    Arguments weights, bias, shares, out, rate.
    """
    b, (weights, bias, shares, out, rate) = t.b, a[:5]
    old, least = t.load(bias), t.all(float(_LEAST), F32)
    moved = b.fsub(old, b.fmul(old, b.fmul(t.load(shares), t.all(rate, F32))))
    new = b.select(b.fcmp_ordered(">", moved, least), moved, least)
    t.store(new, bias)
    share = b.fmul(b.sitofp(t.load(weights), t.vector(F32)), new)
    t.store(share, shares)
    found = b.fptosi(share, t.vector(I32))
    t.store(found, out)
    return [b.add(total[0], b.zext(found, t.vector(I64)))]


@inlined
def weigh(s: State, lane: int, weights: U32) -> int:
    """Put the weights (V) times their bias into those of the lane; their sum."""
    total = _biased(
        address(weights, 0), address(s.bias, lane * s.bias.shape[1]),
        address(s.shares, lane * s.bias.shape[1]), address(s.weights, lane * s.bias.shape[1]),
        s.rate[lane, 0], weights.size,
    )  # fmt: skip
    s.rate[lane, 0] = np.float32(0)  # until something has been learned: asking changes nothing
    s.rate[lane, 1] = _STEP / np.float32(total + 1)
    return int(total)


@inlined
def find_rows(s: State, lane: int) -> None:
    """The row of each context, emptied if it was another's."""
    h, taken = np.uint64(0), 0
    for c in range(COLUMN):
        while taken < ORDERS[c]:
            taken += 1
            symbol = s.history[lane, (s.position[lane] - taken) & (HISTORY - 1)]
            h = (h + np.uint64(symbol) + np.uint64(1)) * _MULTIPLIER
            h ^= h >> np.uint64(29)
        g = h * _MULTIPLIER
        at = np.int64((g >> np.uint64(40)) & np.uint64(s.places.shape[2] - 1))
        check = np.uint16(g >> np.uint64(16))
        if s.places[lane, c, at] == 0:
            s.places[lane, c, at] = s.n_rows[lane]
            s.n_rows[lane] += 1
        s.row[lane, c] = s.places[lane, c, at]
        row = s.rows[lane, s.row[lane, c]]
        if row[0] != check:
            row[0] = check
            for i in range(2 * SLOTS):
                row[1 + i] = 0
    s.row[lane, COLUMN] = min(s.column[lane], N_COLUMNS - 1)


@inlined
def find_candidates(s: State, lane: int) -> None:
    """Long contexts first, the column's last; within one what came most often."""
    found = s.candidates[lane]
    n = 0
    for i in range(N_CONTEXTS):
        c = COLUMN - 1 - i if i < COLUMN else COLUMN
        room = MAX_CANDIDATES if c == COLUMN else MAX_BY_ORDER
        least = 2 if c == COLUMN else 1
        row = s.rows[lane, s.row[lane, c]]
        for q in range(SLOTS):
            if row[_COUNTS + q] < least or n >= room:
                break
            symbol = np.int32(row[1 + q])
            new = True
            for z in range(n):
                new = new and found[z] != symbol
            if new:
                found[n] = symbol
                s.sets[lane, n, 0] = c * RANKS + min(n, RANKS - 1)
                n += 1
    s.n_candidates[lane] = n


@inlined
def hear(s: State, lane: int, z: int) -> None:
    """The opinions of all contexts on a candidate."""
    inputs, cells = s.inputs[lane, z], s.cells[lane, z]
    for c in range(N_CONTEXTS):
        row = s.rows[lane, s.row[lane, c]]
        inputs[1 + c] = 0
        cells[c] = -1
        if row[_COUNTS] > 0:
            n_for, n_against = np.int64(0), np.int64(0)
            for q in range(SLOTS):
                n = np.int64(row[_COUNTS + q])
                if np.int32(row[1 + q]) == s.candidates[lane, z]:
                    n_for += n
                else:
                    n_against += n
            cell = level_for(int(n_for)) * LEVELS + level_against(int(n_against))
            chance = np.int64(s.chances[lane, c, cell])
            cells[c] = cell
            inputs[1 + c] = log2(chance) - log2(65536 - chance)
    inputs[INPUTS - 1] = 256


@inlined
def mix(s: State, lane: int, z: int) -> int:
    """The probability of a candidate, given that none before it comes."""
    one, two = s.by_context[lane, s.sets[lane, z, 0]], s.by_band[lane, s.sets[lane, z, 1]]
    total = np.int64(0)
    for i in range(INPUTS):
        total += (np.int64(one[i]) + np.int64(two[i])) * np.int64(s.inputs[lane, z, i])
    return int(squash(min(max(total >> 17, np.int64(-_LIMIT)), np.int64(_LIMIT))))


@inlined
def predict(s: State, lane: int, weights: U32) -> None:
    """From the model's weights (V) to those of the lane."""
    total = weigh(s, lane, weights)
    find_rows(s, lane)
    find_candidates(s, lane)
    out, rest, mass = s.weights[lane], np.int64(total), np.int64(1 << 30)
    least = (total >> 24) + 1
    n = int(np.int64(0))  # a literal would be compiled for by itself
    while n < s.n_candidates[lane] and mass >= 1 << 14:
        own = np.int64(out[s.candidates[lane, n]])
        rest -= own
        x = log2(own + least) - log2(rest + least)
        x = min(max(x, -_LIMIT), _LIMIT)
        band = 0 if x < -8192 else (1 if x < -4096 else (2 if x < -1024 else 3))
        s.inputs[lane, n, 0] = x
        s.sets[lane, n, 1] = band * RANKS + min(n, RANKS - 1)
        hear(s, lane, n)
        odds = mix(s, lane, n)
        s.odds[lane, n] = odds
        s.masses[lane, n] = (mass * odds) >> 16
        mass -= s.masses[lane, n]
        n += 1
    s.n_candidates[lane] = n
    share_out(s, lane, max(rest, 1), mass)


@inlined
def share_out(s: State, lane: int, rest: int, mass: int) -> None:
    """Give the candidates their masses; all others together have ``rest``, and get ``mass``."""
    out, n = s.weights[lane], s.n_candidates[lane]
    shift = bit_length(rest) - bit_length(mass)
    if shift < 0:
        for i in range(out.size):
            out[i] = np.uint32(out[i] << np.uint32(-shift))
        rest <<= -shift
    else:
        for i in range(out.size):
            out[i] = out[i] >> np.uint32(shift)
        rest >>= shift
    whole = (rest << 30) // mass
    for z in range(n):
        out[s.candidates[lane, z]] = (s.masses[lane, z] * whole) >> 30


@inlined
def learn(s: State, lane: int, symbol: int) -> None:
    """The symbol that was predicted last has come."""
    for z in range(s.n_candidates[lane]):
        hit = s.candidates[lane, z] == symbol
        goal = 65536 if hit else 0
        error = np.int64(goal - s.odds[lane, z])
        one, two = s.by_context[lane, s.sets[lane, z, 0]], s.by_band[lane, s.sets[lane, z, 1]]
        for i in range(INPUTS):
            by = (np.int64(s.inputs[lane, z, i]) * error + (1 << 17)) >> 18
            one[i] = min(max(one[i] + by, -_MAX_WEIGHT), _MAX_WEIGHT)
            two[i] = min(max(two[i] + by, -_MAX_WEIGHT), _MAX_WEIGHT)
        for c in range(N_CONTEXTS):
            cell = s.cells[lane, z, c]
            if cell >= 0:
                chance = s.chances[lane, c, cell]
                chance += (goal - chance) >> 6
                s.chances[lane, c, cell] = min(max(chance, 64), 65536 - 64)
        if hit:
            break
    for c in range(N_CONTEXTS):
        count(s.rows[lane, s.row[lane, c]], symbol)
    s.bias[lane, symbol] = min(s.bias[lane, symbol] + s.bias[lane, symbol] * _STEP, _MOST)
    s.rate[lane, 0] = s.rate[lane, 1]
    s.history[lane, s.position[lane] & (HISTORY - 1)] = symbol
    s.position[lane] += 1
    width = s.widths[symbol]
    s.column[lane] = -1 - width if width < 0 else s.column[lane] + width


@jit
def count(row: U16, symbol: int) -> None:
    """Once more; the most frequent stand first, the latest first of equals."""
    at = -1
    for q in range(SLOTS):
        if row[_COUNTS + q] > 0 and np.int32(row[1 + q]) == symbol:
            at = q
    n = np.int64(1)
    if at >= 0:
        n = np.int64(row[_COUNTS + at]) + 1
        if n > _MAX_COUNT:
            n >>= 1
            for q in range(SLOTS):
                row[_COUNTS + q] >>= 1
    else:
        at = SLOTS - 1
        if row[_COUNTS + at] > 1:  # no room: the last one loses
            row[_COUNTS + at] -= 1
            return
    while at > 0 and row[_COUNTS + at - 1] <= n:
        row[1 + at] = row[at]
        row[_COUNTS + at] = row[_COUNTS + at - 1]
        at -= 1
    row[1 + at] = symbol
    row[_COUNTS + at] = n


@inlined
def decode_adapted(s: State, lane: int, weights: U32, coder: Coder) -> bool:
    """The next symbol of a stream, given weights (V) of the model; as decode_symbol."""
    if coder.left[lane] == 0:
        coder.symbols[lane] = 0
        return True
    predict(s, lane, weights)
    sound = decode_symbol(coder, lane, s.weights[lane])
    learn(s, lane, coder.symbols[lane])
    return bool(sound)


@jit
def code(
    s: State, lane: int, weights: U32, symbols: NDArray[np.int32], cum: U32, freq: U32, coder: Coder
) -> int:
    """One of three, given weights of the model; returns whether every stream is sound:

    - ``symbols`` (t) come next in one lane, their weights are (t, V): their intervals go
      into ``cum`` and ``freq``;
    - ``coder`` has n streams: the next symbol of each, given (n, V), goes into its ``symbols``;
    - else the weights (n, V) become those of the stage, and nothing is learned.
    """
    sound = True
    if symbols.size > 0:
        for i in range(symbols.size):
            predict(s, lane, weights[i])
            cum[i], freq[i] = interval(s.weights[lane], symbols[i])
            learn(s, lane, symbols[i])
    elif coder.start.size > 0:
        for i in range(coder.start.size):
            sound = decode_adapted(s, i, weights[i], coder) and sound
    else:
        for i in range(weights.shape[0]):
            predict(s, i, weights[i])
    return int(sound)


@jit
def learn_all(s: State, symbols: NDArray[np.int32]) -> int:
    """The symbols (n) that were predicted last have come."""
    for i in range(symbols.size):
        learn(s, i, symbols[i])
    return 0
