"""The models that come with the package, and any ``.pglm`` file."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pgolf_codec.errors import ModelNotFoundError, WrongModelError

if TYPE_CHECKING:
    from pgolf_codec.quant.artifact import LoadedModel

DEFAULT = "nano"
FINGERPRINT_PREFIX_BYTES = 8


def embedded_paths() -> dict[str, Path]:
    """Name -> path of each embedded model."""
    folder = Path(str(resources.files("pgolf_codec"))) / "embedded"
    return {path.stem: path for path in sorted(folder.glob("*.pglm"))}


def load_model(model: str | os.PathLike[str] | None = None) -> LoadedModel:
    """An embedded model by name, a ``.pglm`` file by path, or the default (None).

    Raises :class:`ModelNotFoundError` if there is no such model, and a
    :class:`FormatError` if the file is not a sound artifact.
    """
    name = DEFAULT if model is None else os.fspath(model)
    path = embedded_paths().get(name)
    if path is None:
        path = Path(name)
        if not path.is_file():
            known = ", ".join(embedded_paths()) or "none"
            raise ModelNotFoundError(f"no model {name!r}: not a file, nor embedded ({known})")
    return _load(path, path.stat().st_mtime_ns)


def list_models() -> list[LoadedModel]:
    """The embedded models, the default one first."""
    names = sorted(embedded_paths(), key=lambda name: (name != DEFAULT, name))
    return [load_model(name) for name in names]


@lru_cache(maxsize=4)
def _load(path: Path, _mtime_ns: int) -> LoadedModel:
    from pgolf_codec.quant.artifact import load_artifact

    return load_artifact(path)


def find_by_fingerprint(prefix: bytes) -> LoadedModel:
    """The embedded model whose fingerprint starts with ``prefix``, or :class:`WrongModelError`.

    Only the last 32 bytes of each file are read to find it.
    """
    for path in embedded_paths().values():
        with path.open("rb") as file:
            file.seek(-32, os.SEEK_END)
            if file.read(FINGERPRINT_PREFIX_BYTES) == prefix:
                return load_model(path)
    raise WrongModelError(
        f"made with model {prefix.hex()}, which is none of the embedded ones; "
        "name its .pglm file with --model"
    )
