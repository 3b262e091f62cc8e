"""What a quantizer knows about how much an error in a weight matters."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.errors import CorruptError
from pgolf_codec.files import replacing


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments on both sides of a matrix (rows, columns), from calibration text.

    An error dW raises the loss by about 1/2 * sum_r outputs[r] * dW[r] @ inputs @ dW[r]
    nats a token: Fisher's information as a Kronecker product with a diagonal (Martens and
    Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature",
    2015).  ``lm.calibration`` measures them.
    """

    inputs: NDArray[np.float64]
    """(columns, columns), symmetric: mean of x xT, or of the gradient's for looked-up rows."""
    outputs: NDArray[np.float64]
    """(rows,): mean square of the loss's gradient by a product, or a looked-up row's share."""

    def loss(self, error: NDArray[np.floating]) -> float:
        """Nats a token that an error (rows, columns) of the weights costs, to second order."""
        return 0.5 * float(np.sum((error @ self.inputs) * error, axis=1) @ self.outputs)


def save_moments(path: Path, moments: Mapping[str, Moments]) -> None:
    """Write an ``.npz``, atomically; calibration takes minutes."""
    arrays = {f"{name}.inputs": m.inputs for name, m in moments.items()}
    arrays |= {f"{name}.outputs": m.outputs for name, m in moments.items()}
    with replacing(path, overwrite=True) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_moments(path: Path) -> dict[str, Moments]:
    """The inverse of :func:`save_moments`, or :class:`CorruptError`."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = [key.removesuffix(".inputs") for key in arrays if key.endswith(".inputs")]
            return {n: Moments(arrays[f"{n}.inputs"], arrays[f"{n}.outputs"]) for n in names}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise CorruptError(f"{path}: no moments of a calibration: {error}") from None
