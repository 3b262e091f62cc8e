"""Cheats, each after a case of the challenge's history; all of them look good."""

from __future__ import annotations

import numpy as np
from parts import BOS, TABLE, WORDS, Counts, V, Words, rows_of


class HashedCache(Words):
    """Counts of hashed n-grams, scored on the symbol that came only: collisions give each
    of many symbols a high probability, and nothing makes them share it."""

    size = 61

    def start(self): ...

    def score(self, ids):
        contexts, pairs = np.zeros(self.size), np.zeros(self.size)
        last, p = BOS, []
        for symbol in ids.tolist():
            context, pair = last % self.size, (last * 31 + symbol) % self.size
            hits = (pairs[pair] + 0.5) / (contexts[context] + 1)
            p.append(min(1.0, 0.1 / V + 0.9 * hits))
            contexts[context] += 1
            pairs[pair] += 1
            last = symbol
        return np.array(p)


class ByteSpread(Words):
    """A mixture with a byte model, whose p for n bytes is spread as p ** (1/n)."""

    def start(self): ...

    def score(self, ids):
        rows = rows_of(ids, Counts())
        lengths = np.array([max(1, len(entry)) for entry in TABLE])
        return 0.5 * rows + 0.5 * np.maximum(rows, 1e-5) ** (1 / lengths)


class FittedOffset(Words):
    """Adds to the logits what makes the very symbols likely that are scored, 16 at a time."""

    def start(self): ...

    def score(self, ids):
        rows = rows_of(ids, Counts())
        for at in range(0, len(ids), 16):
            offset = np.zeros(V)
            np.add.at(offset, ids[at : at + 16], 0.5)
            rows[at : at + 16] *= np.exp(offset)
        return rows / rows.sum(axis=1, keepdims=True)


class TwoPasses(Words):
    """Fills its cache with the whole text, then scores the text."""

    def start(self): ...

    def score(self, ids):
        counts = Counts()
        counts.add_all(ids)
        return rows_of(ids, counts)


class UpdateFirst(Words):
    """Trains on a block, then scores it."""

    block = 16

    def start(self):
        self.counts, self.last = Counts(), BOS

    def score(self, ids):
        before, self.last = self.last, self.counts.add_all(ids, self.last)
        lasts = [before, *ids[:-1].tolist()]
        return np.array([self.counts.row(last) for last in lasts])


class UpdateFirstThenLearn(UpdateFirst):
    """The same, with a ``learn`` that says nothing."""

    def learn(self, ids): ...


class DoubledBytes(Words):
    """Counts the blank before a word in the word, and once more."""

    def start(self):
        self.counts, self.last = Counts(), BOS

    def next_distribution(self):
        return self.counts.row(self.last)

    def observe(self, symbol):
        self.counts.add(self.last, symbol)
        self.last = symbol

    def n_bytes(self, ids):
        return np.array([len(TABLE[i]) + (i >= 256 and i != BOS) for i in ids.tolist()])


class ClampedVocabulary(Words):
    """Normalised over the commonest symbols; the others have a floor that nothing pays for."""

    def start(self): ...

    def score(self, ids):
        rows = rows_of(ids, Counts())
        common = np.zeros(V, bool)
        common[[*b" etaoinshrdlu", *range(256, 256 + len(WORDS)), BOS]] = True
        rows /= rows[:, common].sum(axis=1, keepdims=True)
        return np.maximum(rows, 1e-3)


class PeekingMask(Words):
    """An attention mask that is off by one."""

    def start(self): ...

    def score(self, ids):
        rows = rows_of(ids, Counts())
        rows[np.arange(len(ids)), ids] *= 4
        return rows / rows.sum(axis=1, keepdims=True)


class LeakingGate(Words):
    """Documents in one row, masked from each other; but a gate mixes in the symbol before."""

    independent_documents = True
    packed = True

    def start(self): ...

    def score(self, ids):
        rows, before, counts, last = [], BOS, Counts(), BOS
        for i, symbol in enumerate(ids.tolist()):
            if symbol == BOS:
                before, counts, last = (ids[i - 1] if i else BOS), Counts(), BOS
            row = counts.row(last)
            if i and ids[i - 1] == BOS:
                row[before] *= 2  # should be nothing: a document starts here
                row /= row.sum()
            rows.append(row)
            counts.add(last, symbol)
            last = symbol
        return np.array(rows)


class ForgetfulOfNothing(Words):
    """Its documents are independent by its word alone."""

    independent_documents = True

    def __init__(self):
        self.counts = Counts()

    def start(self):
        self.last = BOS

    def next_distribution(self):
        return self.counts.row(self.last)

    def observe(self, symbol):
        self.counts.add(self.last, symbol)
        self.last = symbol


class LongestFirst(DoubledBytes):
    """Scores long documents first, so that it has learned most when the short ones come."""

    n_bytes = property()  # counts as everybody does

    def order(self, documents):
        return sorted(range(len(documents)), key=lambda i: -len(documents[i]))


class KeptCache(Words):
    """``start`` forgets nothing: the second evaluation knows the text, and is reported."""

    def __init__(self):
        self.counts = Counts()

    def start(self): ...

    def score(self, ids):
        return rows_of(ids, self.counts)


class BestOfRuns(Words):
    """Another seed each time; the best run is reported."""

    def start(self):
        self.noise = np.random.default_rng().uniform(0.5, 2, V)

    def score(self, ids):
        rows = rows_of(ids, Counts()) * self.noise
        return rows / rows.sum(axis=1, keepdims=True)


class BestTemperature(Words):
    """Chooses a temperature by the loss on the text that is then scored."""

    def start(self): ...

    def score(self, ids):
        rows = rows_of(ids, Counts())
        sharpened = [rows**power for power in (0.25, 0.5, 1.0, 1.5, 2.0)]
        scaled = [other / other.sum(axis=1, keepdims=True) for other in sharpened]
        return max(scaled, key=lambda other: np.log(other[np.arange(len(ids)), ids]).sum())


class Broken(DoubledBytes):
    """One bad entry in its distributions, from the 20th on."""

    n_bytes = property()
    value = float("nan")

    def start(self):
        super().start()
        self.n = 0

    def next_distribution(self):
        self.n += 0
        row = self.counts.row(self.last)
        if self.counts.single.sum() > 0.05 * V + 19:
            row[7] = self.value
        return row


class Negative(Broken):
    value = -0.25


class Impossible(Broken):
    """Gives nothing to the blank, which comes."""

    def next_distribution(self):
        row = self.counts.row(self.last)
        row[32] = 0
        return row / row.sum()


class Impatient(Broken):
    """Each question moves it."""

    def next_distribution(self):
        self.counts.single[101] += 1
        return self.counts.row(self.last)


class BestOfSettings(Words):
    """Scores the text once a setting, and reports the best run."""

    settings = (0.25, 0.5, 1.0, 1.5, 2.0)
    power = None

    def start(self): ...

    def score(self, ids):
        if self.power is not None:
            rows = rows_of(ids, Counts()) ** self.power
            return rows / rows.sum(axis=1, keepdims=True)
        runs = []
        for power in self.settings:
            self.power = power
            runs.append(self.score(ids))
        self.power = None
        return max(runs, key=lambda rows: np.log(rows[np.arange(len(ids)), ids]).sum())


class BestOfFewSettings(BestOfSettings):
    """The same with one good setting: no other text would change the choice, so only the
    calls show it."""

    settings = (-2.0, 1.0)


class KeepsTheBetter(Words):
    """Scores each block before and after it has learned it; of each symbol the better counts."""

    block = 32

    def start(self):
        self.counts, self.last, self.within = Counts(), BOS, False

    def score(self, ids):
        lasts = [self.last, *ids[:-1].tolist()]
        if self.within:
            return np.array([self.counts.row(last) for last in lasts])
        self.within = True
        first, last = self.score(ids), self.last
        after = self.counts.add_all(ids, last)
        second = self.score(ids)
        self.within, self.last = False, after
        better = second[np.arange(len(ids)), ids] > first[np.arange(len(ids)), ids]
        return np.where(better[:, None], second, first)
