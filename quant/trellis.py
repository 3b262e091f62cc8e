"""The trellis: integers on a fine grid, at the rate of a coarse one.

A weight may only be an even or only an odd integer, and which of the two is decided by
the state of a small machine that runs along with the weights; what is coded is the
index k of x = 2k + parity.  Its lowest bit drives the machine::

    parity = state & 1          x = 2 k + parity
    state' = state >> 1  ^  (k & 1) * (H1 >> 1)  ^  parity * (H0 >> 1)

H0 and H1 are the parity-check polynomials of Ungerboeck's codes for amplitude modulation
("Channel coding with multilevel/phase signals", 1982, table I); the four classes of x
modulo 4 are his four subsets.  Quantizing is a search for the path of least cost

    weight * (target - x)**2 + rate * bits[table][parity][k]

by the Viterbi algorithm, so the entropy coder's price is part of the search (Fischer and
Wang, "Entropy-constrained trellis-coded quantization", 1992).  Every column starts in
state 0, and a decoder needs nothing but the two lines above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import ConfigError

CODES: dict[int, tuple[int, int]] = {
    1: (0, 0),  # no machine: all even, a plain scalar quantizer with the same interface
    4: (0o5, 0o2),
    8: (0o13, 0o4),
    16: (0o23, 0o4),
    32: (0o45, 0o10),
    64: (0o103, 0o24),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
"""States -> (H0, H1)."""

SQUARED_ERROR = 0.265
"""Mean squared error of a search at about 3 bits, in steps squared: 8 states, measured."""


def machine(n_states: int) -> NDArray[np.int64]:
    """Next states (n_states, 2): by state and lowest bit of the index.

    Raises :class:`ConfigError` for a number of states that has no code.
    """
    if n_states not in CODES:
        raise ConfigError(f"trellis: {n_states} states; there are codes for {sorted(CODES)}")
    h0, h1 = (h >> 1 for h in CODES[n_states])
    states = np.arange(n_states)
    base = (states >> 1) ^ np.where(states & 1, h0, 0)
    return np.stack([base, base ^ h1], axis=1).astype(np.int64)
