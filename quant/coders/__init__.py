"""Entropy coders of integers: a registry, and one module a family.

:mod:`~pgolf_codec.quant.coders.registry` has the protocol and the way in;
docs/WEIGHTS.md has the bytes.
"""

from pgolf_codec.quant.coders.registry import (
    GROUP,
    MAX_ITEMS,
    Coder,
    coder_names,
    decode,
    encode,
    find_coder,
    stream_info,
)

__all__ = [
    "GROUP",
    "MAX_ITEMS",
    "Coder",
    "coder_names",
    "decode",
    "encode",
    "find_coder",
    "stream_info",
]
