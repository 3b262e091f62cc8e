"""What the animals of the zoo are made of: words as symbols, and counts of them."""

from __future__ import annotations

import numpy as np

WORDS = [b" the", b" and", b" of", b" to", b" a", b" in", b" was", b" it", b" that", b" had"]
BOS = 256 + len(WORDS)
TABLE = [bytes([byte]) for byte in range(256)] + WORDS + [b""]
V = len(TABLE)


class Words:
    """Bytes and ten words; each document starts with BOS.  Loses nothing."""

    n_symbols = V

    def encode(self, data):
        ids, at = [BOS], 0
        while at < len(data):
            symbol = next((256 + i for i, word in enumerate(WORDS) if data.startswith(word, at)), 0)
            symbol = symbol or data[at]
            ids.append(symbol)
            at += len(TABLE[symbol])
        return np.array(ids)

    def decode(self, ids):
        return b"".join(TABLE[i] for i in ids)


class Counts:
    """Order-1 counts that back off to order 0, as one normalised distribution."""

    def __init__(self):
        self.single = np.full(V, 0.05)
        self.pairs = {}

    def row(self, last):
        base = self.single / self.single.sum()
        pairs = self.pairs.get(last)
        return base if pairs is None else (pairs + 3 * base) / (pairs.sum() + 3)

    def add(self, last, symbol):
        self.single[symbol] += 1
        self.pairs.setdefault(last, np.zeros(V))[symbol] += 1

    def add_all(self, ids, last=BOS):
        for symbol in ids.tolist():
            self.add(last, symbol)
            last = symbol
        return last


def rows_of(ids, counts, last=BOS):
    """Distributions of ``ids`` one after the other; ``counts`` grow as they come."""
    rows = []
    for symbol in ids.tolist():
        rows.append(counts.row(last))
        counts.add(last, symbol)
        last = symbol
    return np.array(rows)
