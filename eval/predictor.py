"""What anyone's scoring function has to offer so that it can be refereed.

A *predictor* is asked for one distribution after the other and told each symbol only
afterwards; that is all a decoder can do.  A *scorer* is handed symbols together and
says how probable each was, as evaluation scripts do; it is replayed as a predictor by
:class:`pgolf_codec.eval.adapters.Replayed`.

Both may have more, all of it optional:

``encode(data) -> ids``, ``decode(ids) -> data``
    Bytes into symbols and back.  Without them symbols are bytes (V = 256).  A ``decode``
    that does not give the bytes back is allowed; what it lost is coded as well, and counts.
``n_bytes(ids) -> (n,) integers``
    The bytes by which its author divides.  Without it, the raw bytes.
``independent_documents = True``
    Contexts never cross from one document into another; ``start`` is then called for each.
``start_document()``
    Of a predictor that is told where each document starts, after ``start`` where both are
    called: contexts may end there while what was learned is kept.
``packed = True``
    Of a scorer of such documents: it wants them in one array, as evaluation scripts pack
    them, and finds their starts by a first symbol that all of them have.
``order(documents) -> indexes``
    The order in which documents are scored.  It is coded as well, and counts.
``files = [path, ...]``
    What the decoder needs and native code reads; what Python opens is seen by itself.
``claimed_bpb``
    The score its author reports.  Without it, what its own probabilities say.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray


class Predictor(Protocol):
    """Symbols are 0 .. n_symbols − 1; at most 65536 of them."""

    n_symbols: int

    def start(self) -> None:
        """Forget everything: nothing has been observed."""
        ...

    def next_distribution(self) -> ArrayLike:
        """Probabilities (V,) of the next symbol, given those observed since ``start``.

        Asking changes nothing: asked twice, it says the same.
        """
        ...

    def observe(self, symbol: int) -> None:
        """The next symbol is this one."""
        ...


class Scorer(Protocol):
    """Given symbols, says how probable each was.

    With ``block = n`` the symbols come n at a time, and the scorer remembers the blocks
    before; else they come all together, behind a ``start``.  With ``learn``, ``score``
    changes nothing and ``learn`` is called with each block after its scoring.
    """

    n_symbols: int

    def start(self) -> None:
        """Forget everything: nothing has been scored."""
        ...

    def score(self, ids: NDArray[Any]) -> ArrayLike:
        """Of ``ids`` (n,) int64: (n, V) whole distributions, row t given what stands before t;
        or (n,) the probabilities of ``ids`` alone."""
        ...
