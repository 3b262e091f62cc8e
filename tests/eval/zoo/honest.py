"""Honest predictors of every kind: none of them may be accused."""

from __future__ import annotations

import numpy as np
from parts import BOS, TABLE, Counts, V, Words, rows_of


class BackOff(Words):
    """Order-1 counts with proper back-off, step by step."""

    def start(self):
        self.counts, self.last = Counts(), BOS

    def next_distribution(self):
        return self.counts.row(self.last)

    def observe(self, symbol):
        self.counts.add(self.last, symbol)
        self.last = symbol

    def n_bytes(self, ids):
        return np.array([len(TABLE[i]) for i in ids.tolist()])


class StartsAnew(BackOff):
    """The same for independent documents."""

    independent_documents = True


class BackOffScorer(Words):
    """The same counts over a whole sequence at once."""

    def start(self): ...

    def score(self, ids):
        return rows_of(ids, Counts())


class GoldOnly(Words):
    """Tells nothing but the probability of each symbol; it is one of a distribution."""

    def start(self): ...

    def score(self, ids):
        return rows_of(ids, Counts())[np.arange(len(ids)), ids]


class ExactBytes:
    """Bytes from a model of tokens: the sum over all ways to cut what came into tokens.

    alpha[i] is the probability that the first i bytes are whole tokens; the mass of a
    prefix adds the tokens that it may be within.
    """

    n_symbols = 256

    def __init__(self):
        weights = np.array([1.0] * 256 + [40.0] * (V - 257))
        weights[[*b" etaoinshrdlu"]] = 30
        weights /= weights.sum()
        self.tokens = {TABLE[i]: p for i, p in enumerate(weights)}
        self.mass = {}
        for token, p in self.tokens.items():
            for end in range(len(token) + 1):
                self.mass[token[:end]] = self.mass.get(token[:end], 0.0) + p

    def start(self):
        self.data, self.alpha = b"", [1.0]

    def prefix(self, data):
        """Probability of all texts that start with the last bytes of ``data``."""
        n = len(data)
        return sum(self.alpha[j] * self.mass.get(data[j:], 0.0) for j in range(max(0, n - 5), n))

    def next_distribution(self):
        masses = np.array([self.prefix(self.data + bytes([byte])) for byte in range(256)])
        return masses / masses.sum()

    def observe(self, symbol):
        self.data += bytes([symbol])
        n = len(self.data)
        inside = range(max(0, n - 5), n)
        end = sum(self.alpha[j] * self.tokens.get(self.data[j:], 0.0) for j in inside)
        self.alpha.append(end)
        if end < 1e-100:
            self.alpha = [0.0] * (n - 5) + [a * 1e90 for a in self.alpha[-6:]]


class Mixture(BackOff):
    """Two experts; their weights follow what each of them gave to the symbols that came."""

    def start(self):
        super().start()
        self.weights = np.array([0.5, 0.5])

    def experts(self):
        single = self.counts.single / self.counts.single.sum()
        return np.array([single, self.counts.row(self.last)])

    def next_distribution(self):
        return self.weights @ self.experts()

    def observe(self, symbol):
        self.weights = self.weights * self.experts()[:, symbol] + 1e-6
        self.weights /= self.weights.sum()
        super().observe(symbol)


class ScoreFirst(Words):
    """Test-time training as it should be: a block is scored, then learned."""

    block = 16

    def start(self):
        self.counts, self.last = Counts(), BOS

    def score(self, ids):
        lasts = [self.last, *ids[:-1].tolist()]
        return np.array([self.counts.row(last) for last in lasts])

    def learn(self, ids):
        self.last = self.counts.add_all(ids, self.last)


class ScoreFirstInOne(ScoreFirst):
    """The same without a ``learn`` of its own."""

    learn = property()

    def score(self, ids):
        rows = super().score(ids)
        self.last = self.counts.add_all(ids, self.last)
        return rows


class EachByItself(BackOffScorer):
    """Documents that are scored one by one."""

    independent_documents = True


class PackedDocuments(Words):
    """Documents in one row, each scored from nothing."""

    independent_documents = True
    packed = True

    def start(self): ...

    def score(self, ids):
        rows, counts, last = [], Counts(), BOS
        for symbol in ids.tolist():
            if symbol == BOS:
                counts, last = Counts(), BOS
            rows.append(counts.row(last))
            counts.add(last, symbol)
            last = symbol
        return np.array(rows)


class Folded(BackOff):
    """Folds line ends and runs of blanks, as the challenge's tokenizers do."""

    n_bytes = property()

    def encode(self, data):
        return super().encode(b" ".join(data.split()))


class PackedGoldOnly(PackedDocuments):
    """The same, telling nothing but the probability of each symbol."""

    def score(self, ids):
        return super().score(ids)[np.arange(len(ids)), ids]


class InWindows(Words):
    """Long texts by calls of itself, in windows of which the second half counts."""

    length = 32

    def start(self): ...

    def score(self, ids):
        if len(ids) <= self.length:
            return rows_of(ids, Counts())
        rows, half = [self.score(ids[: self.length])], self.length // 2
        for at in range(half, len(ids) - half, half):
            rows.append(self.score(ids[at : at + self.length])[half:])
        return np.concatenate(rows)


class WarmsUp(BackOffScorer):
    """Runs once for nothing, as one does before a clock is started; the answers are the same."""

    within = False

    def score(self, ids):
        if not self.within:
            self.within = True
            self.score(ids)
            rows = self.score(ids)
            self.within = False
            return rows
        return super().score(ids)


class AsksItself(BackOff):
    """Starts when it is made, and asks itself before it observes."""

    def __init__(self):
        self.start()

    def observe(self, symbol):
        self.next_distribution()
        super().observe(symbol)
