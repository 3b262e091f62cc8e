"""What the referee and a foreign predictor's process say to each other, over pipes.

A message is a length (8 bytes, little-endian), that many bytes of a JSON object, and
behind it the blobs and arrays that the object lists under ``_data``: their kind, shape
and bytes.  Nothing is unpickled, and no size is believed before it is checked.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import numpy as np

from pgolf_codec.errors import PredictorError

_LENGTH = struct.Struct("<Q")
_MAX_JSON_BYTES = 1 << 26
MAX_DATA_BYTES = 1 << 31
_KINDS = {"bytes", "int64", "float64"}


def send(file: BinaryIO, message: dict[str, Any]) -> None:
    """Values are JSON's, or bytes, or arrays (written as int64 or float64)."""
    plain: dict[str, Any] = {}
    listed, blobs = [], []
    for key, value in message.items():
        if isinstance(value, bytes):
            listed.append((key, "bytes", [len(value)]))
            blobs.append(value)
        elif isinstance(value, np.ndarray):
            kind = "float64" if value.dtype.kind == "f" else "int64"
            listed.append((key, kind, list(value.shape)))
            blobs.append(np.ascontiguousarray(value, kind).tobytes())
        else:
            plain[key] = value
    head = json.dumps(plain | {"_data": listed}).encode()
    file.write(_LENGTH.pack(len(head)) + head)
    file.writelines(blobs)
    file.flush()


def receive(file: BinaryIO) -> dict[str, Any] | None:
    """The next message, None at the end of the file.

    Raises :class:`PredictorError` for anything that :func:`send` does not write.
    """
    size = file.read(_LENGTH.size)
    if not size:
        return None
    try:
        (n_bytes,) = _LENGTH.unpack(size)
        if n_bytes > _MAX_JSON_BYTES:
            raise ValueError(f"{n_bytes} bytes of JSON")
        message = json.loads(_exactly(file, n_bytes))
        for key, kind, shape in message.pop("_data"):
            if kind not in _KINDS or not all(isinstance(n, int) and n >= 0 for n in shape):
                raise ValueError(f"{key} of kind {kind}")
            n_items = 1
            for n in shape:
                n_items *= n
            n_bytes = n_items * (1 if kind == "bytes" else 8)
            if n_bytes > MAX_DATA_BYTES:
                raise ValueError(f"{key} of {n_bytes} bytes")
            data = _exactly(file, n_bytes)
            message[key] = data if kind == "bytes" else np.frombuffer(data, kind).reshape(shape)
    except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise PredictorError(f"the predictor's process talks nonsense: {error}") from None
    return dict(message)


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    if len(data) != n_bytes:
        raise ValueError("it ended in the middle of a message")
    return data
