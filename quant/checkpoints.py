"""Weights from files: .safetensors, and what ``torch.save`` wrote (with torch, if there)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from pgolf_codec import notices
from pgolf_codec.errors import ConfigError, FormatError, MissingPackageError, TensorError
from pgolf_codec.quant import safetensors_file
from pgolf_codec.quant.bag import is_bag
from pgolf_codec.quant.tensors import Tensor

_INNER = ("model", "state_dict", "model_state_dict", "module", "ema")
"""Where a training checkpoint keeps its weights."""
_MOST_NAMED = 8
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NO_WEIGHTS = re.compile(r"Unsupported global: GLOBAL \S+")


def read_with_metadata(
    path: Path, key: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As :func:`read_tensors`, and what a ``.safetensors`` file says of itself."""
    if path.suffix == ".safetensors" and key is None:
        return safetensors_file.read_with_metadata(path)
    return read_tensors(path, key), {}


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or a torch checkpoint, by name.

    ``key`` names the entry of a checkpoint that has the weights; without it one of the
    usual entries is taken, or the checkpoint itself if it has none.  Tensors of a dictionary
    ``a`` within the weights are named ``a.NAME``; what is left out is told
    (:mod:`~pgolf_codec.notices`).  Raises :class:`ConfigError`
    for a key where there are no entries, :class:`FormatError`, :class:`TensorError`,
    :class:`MissingPackageError`.
    """
    if path.suffix == ".safetensors":
        if key is not None:
            raise ConfigError(f"{path}: key {key!r} is for a torch checkpoint, which has entries")
        return safetensors_file.read_safetensors(path)
    if path.is_file() and is_bag(path):
        raise FormatError(f"{path}: is packed already; unpack it first")
    weights, left_out = _weights_of(_load_torch(path), key)
    _tell_left_out(path, left_out)
    return from_state_dict(weights)


def from_state_dict(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state_dict of torch tensors or numpy arrays."""
    return {name: _from_any(name, value) for name, value in state.items()}


def _tell_left_out(path: Path, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        notices.tell(f"{path}: left out: {', '.join(names[:_MOST_NAMED])}{more}")


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
        text = _COLOUR.sub("", str(error))
        needs = _NO_WEIGHTS.search(text)
        reason = needs[0] if needs else text.partition("\n")[0] or type(error).__name__
        raise FormatError(f"{path}: not a torch checkpoint of weights: {reason}") from None


def _weights_of(checkpoint: Any, key: str | None) -> tuple[dict[str, Any], list[str]]:
    """Tensors by name, and the names of what is none of them."""
    if not isinstance(checkpoint, Mapping):
        raise FormatError("checkpoint: not a dictionary of tensors")
    if key is not None and not isinstance(checkpoint.get(key), Mapping):
        raise FormatError(f"checkpoint: has no dictionary {key!r}")
    entry: Any = key
    if key is None:
        entry = next((k for k in _INNER if isinstance(checkpoint.get(k), Mapping)), None)
    left_out: list[str] = []
    if entry is not None:
        left_out = [str(k) for k in checkpoint if k != entry]
        checkpoint = checkpoint[entry]
    elif not any(hasattr(value, "detach") for value in checkpoint.values()):
        raise FormatError(f"checkpoint: which of {', '.join(map(str, checkpoint))} is it?")
    tensors: dict[str, Any] = {}
    _collect(checkpoint, "", tensors, left_out)
    if not tensors:
        raise FormatError("checkpoint: no tensors in it")
    return tensors, left_out


def _collect(
    entries: Mapping[Any, Any], prefix: str, tensors: dict[str, Any], left_out: list[str]
) -> None:
    """Tensors of a dictionary and of those in it, the names joined by dots."""
    for key, value in entries.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _collect(value, f"{name}.", tensors, left_out)
        elif not hasattr(value, "detach"):
            left_out.append(name)
        elif name in tensors:
            raise FormatError(f"checkpoint: two tensors are named {name}")
        else:
            tensors[name] = value
