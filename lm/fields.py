"""Frozen dataclasses from the tables of a TOML or JSON file, checked field by field."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from pgolf_codec.errors import ConfigError

C = TypeVar("C")


def from_table(cls: type[C], values: dict[str, Any], what: str) -> C:
    """``cls`` of ``values``; ``what`` begins the messages.

    Raises :class:`ConfigError` on unknown, missing or ill-typed keys.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise ConfigError(f"{what}: unknown key {unknown[0]!r}")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        kind = str(fields[name].type)
        if kind == "tuple[int, ...]":
            ok = isinstance(value, list) and all(type(v) is int for v in value)
            value = tuple(value) if ok else value
        elif kind == "tuple[str, ...]":
            ok = isinstance(value, list) and all(isinstance(v, str) for v in value)
            value = tuple(value) if ok else value
        elif kind == "float":
            ok = type(value) in (int, float)
            value = float(value) if ok else value
        elif kind == "str":
            ok = isinstance(value, str)
        elif kind == "bool":
            ok = isinstance(value, bool)
        elif kind.startswith("dict["):
            ok = isinstance(value, dict)
        else:
            ok = type(value) is int
        if not ok:
            raise ConfigError(f"{what}: {name} is not of type {kind}")
        arguments[name] = value
    none = dataclasses.MISSING
    for name, field in fields.items():
        if name not in arguments and field.default is none and field.default_factory is none:
            raise ConfigError(f"{what}: {name} is missing")
    return cls(**arguments)


def to_plain(value: Any) -> Any:
    """What JSON and TOML have for a field's value."""
    return list(value) if isinstance(value, tuple) else value
