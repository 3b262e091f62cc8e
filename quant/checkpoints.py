"""Weights from files: .safetensors, and what ``torch.save`` wrote (with torch, if there)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from pgolf_codec.errors import ConfigError, FormatError, MissingPackageError, TensorError
from pgolf_codec.quant.safetensors_file import read_safetensors
from pgolf_codec.quant.tensors import Tensor

_INNER = ("model", "state_dict", "model_state_dict", "module", "ema")
"""Where a training checkpoint keeps its weights."""


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or a torch checkpoint, by name.

    ``key`` names the entry of a checkpoint that has the weights; without it the
    checkpoint itself or one of its usual entries is taken.  Raises :class:`ConfigError`
    for a key where there are no entries, :class:`FormatError`, :class:`TensorError`,
    :class:`MissingPackageError`.
    """
    if path.suffix == ".safetensors":
        if key is not None:
            raise ConfigError(f"{path}: key {key!r} is for a torch checkpoint, which has entries")
        return read_safetensors(path)
    return from_state_dict(_weights_of(_load_torch(path), key))


def from_state_dict(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state_dict of torch tensors or numpy arrays."""
    return {name: _from_any(name, value) for name, value in state.items()}


def _from_any(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        if hasattr(value, "detach"):
            return _from_torch(value)
        return Tensor.from_array(value)
    except (TensorError, TypeError, AttributeError, RuntimeError) as error:  # sparse, meta
        raise TensorError(f"tensor {name}: {error}") from None


_TORCH_BITS = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
"""Dtypes that numpy doesn't have."""


def _from_torch(value: Any) -> Tensor:
    import torch

    array = value.detach().cpu().contiguous()
    name = _TORCH_BITS.get(str(array.dtype).removeprefix("torch."))
    if name is None:
        return Tensor.from_array(array.numpy())
    flat = array.reshape(-1).view(torch.uint8).numpy()
    return Tensor.from_bytes(name, tuple(array.shape), flat.tobytes())


_NOT_PICKLED = (
    RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    UnpicklingError,
)  # fmt: skip
"""Where other bytes than a checkpoint's lead torch."""


def _load_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingPackageError(f"{path}: pip install pgolf-codec[train] (torch)") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_PICKLED as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FormatError(f"{path}: not a torch checkpoint of weights: {reason}") from None


def _weights_of(checkpoint: Any, key: str | None) -> dict[str, Any]:
    if not isinstance(checkpoint, Mapping):
        raise FormatError("checkpoint: not a dictionary of tensors")
    if key is not None:
        if not isinstance(checkpoint.get(key), Mapping):
            raise FormatError(f"checkpoint: has no dictionary {key!r}")
        checkpoint = checkpoint[key]
    elif not any(hasattr(value, "detach") for value in checkpoint.values()):
        inner = [k for k in _INNER if isinstance(checkpoint.get(k), Mapping)]
        if not inner:
            raise FormatError(f"checkpoint: which of {', '.join(map(str, checkpoint))} is it?")
        checkpoint = checkpoint[inner[0]]
    tensors = {str(k): v for k, v in checkpoint.items() if hasattr(v, "detach")}
    if not tensors:
        raise FormatError("checkpoint: no tensors in it")
    return tensors
