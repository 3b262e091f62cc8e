"""What the codec asks of a model: integer weights for the next symbol.

The codec never sees a float.  A predictor yields non-negative integers, one a
symbol, that are a pure function of its own bytes and the symbols before; how
they become coding intervals is :mod:`pgolf_codec.codec.frequencies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pgolf_codec.codec.compiled import Flat
    from pgolf_codec.codec.range_coder import Decoder


class Session(Protocol):
    """The state of ``n`` independent streams that advance in lock step.

    A stream starts with an empty past.  Calls of both methods may be mixed; the
    intervals are the same whichever way a position is reached.
    """

    def intervals(self, ids: NDArray[np.int32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Advance over known symbols: the encoder's side.

        ``ids`` (n, t) are the next t symbols of each stream.  Returns ``cum`` and
        ``freq``, both (n, t) uint32: the interval [cum, cum + freq) of each symbol
        in units of 2**-24, given those before it.
        """
        ...

    def weights(self, previous: NDArray[np.int32] | None) -> NDArray[np.uint32]:
        """Advance by one symbol: the decoder's side.

        ``previous`` (n,) are the symbols just decoded, None at the start of the
        streams.  Returns the weights (n, V) of the next symbol; the array is the
        session's own and is overwritten by the next call.
        """
        ...


@runtime_checkable
class DecodingSession(Session, Protocol):
    """A session that can take many steps of a decoder at once."""

    def decode(self, decoder: Decoder, n_steps: int) -> NDArray[np.int32]:
        """The next ``n_steps`` symbols of each stream, (n, n_steps).

        As that many calls of ``weights``, each followed by one of ``decoder.step``, whose
        errors it raises.
        """
        ...


@runtime_checkable
class StagedSession(Session, Protocol):
    """A session that can put the stage of :mod:`~pgolf_codec.codec.adaptation` behind its
    weights by itself, where nobody has asked for ``weights``."""

    has_stage: Literal[True]

    def intervals(
        self, ids: NDArray[np.int32], stage: Flat = ...
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """As those of a session."""
        ...

    def decode(self, decoder: Decoder, n_steps: int, stage: Flat = ...) -> NDArray[np.int32]:
        """As that of a :class:`DecodingSession`."""
        ...


class Predictor(Protocol):
    """An immutable model; sessions may run in threads of their own."""

    @property
    def n_symbols(self) -> int:
        """V, at most 65536."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the model's artifact, 32 bytes."""
        ...

    @property
    def numerics_version(self) -> int: ...

    def session(self, n_streams: int) -> Session: ...


def encodes_alone(predictor: Predictor) -> bool:
    """Whether known symbols take as long in one stream as side by side in many.

    Predictors that say so have a true attribute of this name.
    """
    return bool(getattr(predictor, "encodes_alone", False))
