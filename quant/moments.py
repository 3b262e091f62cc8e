"""What a quantizer knows about how much an error in a weight matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
