"""Classical compressors to stand beside: at their strongest usual setting, and *primed*.

A model was trained before it saw the text; a dictionary is what a classical compressor
can be given in its place.  So the primed control is zstd with a dictionary as large as
the model, trained on text of the same kind.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pgolf_codec.errors import RefusedError

STRONGEST = 22
"""zstd's ``--ultra -22``."""
_SAMPLE_BYTES = 1 << 13
_SEGMENT_BYTES, _MATCH_BYTES = 1024, 8
"""Parameters k and d of zstd's trainer: measured on web text, near its best for large
dictionaries."""
_MOST_TRAINING_BYTES = 1 << 26
_TELLING_BYTES = 80
"""A line as long as this is hardly in two texts by chance."""


class Peer(NamedTuple):
    """Another compressor: how to call it."""

    name: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


def peers() -> list[Peer]:
    """Those at hand; brotli is not part of every installation."""
    import zstandard

    strongest = lzma.PRESET_EXTREME | 9
    found = [
        Peer("zlib -9", lambda data: zlib.compress(data, 9), zlib.decompress),
        Peer("bzip2 -9", lambda data: bz2.compress(data, 9), bz2.decompress),
        Peer("xz -9e", lambda data: lzma.compress(data, preset=strongest), lzma.decompress),
        Peer(
            "zstd -19",
            zstandard.ZstdCompressor(level=19).compress,
            zstandard.ZstdDecompressor().decompress,
        ),
    ]
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        return found
    return [*found, Peer("brotli -11", brotli.compress, brotli.decompress)]


def ultra() -> Peer:
    """zstd at its very strongest: takes as much time as xz."""
    import zstandard

    return Peer(
        "zstd --ultra -22",
        zstandard.ZstdCompressor(level=STRONGEST).compress,
        zstandard.ZstdDecompressor().decompress,
    )


@dataclass(frozen=True, slots=True)
class Primed:
    """zstd with a dictionary, which its decoder needs as ours needs the model."""

    n_bytes: int
    """Of the text, compressed."""
    dictionary_bytes: int
    training_bytes: int
    """Of the text that the dictionary was made from."""
    is_trained: bool
    """False: there was too little text to choose from, and the dictionary is its end."""


def primed(text: bytes, training: Sequence[bytes], dictionary_bytes: int) -> Primed:
    """Compress ``text`` with a dictionary of at most ``dictionary_bytes``.

    ``training`` are documents of the same kind, not the text itself; the first 64 MiB of
    them are used.  What comes back is compared.
    """
    import zstandard

    material = b"".join(training)[:_MOST_TRAINING_BYTES]
    is_large = len(material) > dictionary_bytes
    dictionary = _trained(material, dictionary_bytes) if is_large else None
    is_trained = dictionary is not None
    if dictionary is None:
        dictionary = zstandard.ZstdCompressionDict(
            material[-dictionary_bytes:], dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
    blob = zstandard.ZstdCompressor(level=STRONGEST, dict_data=dictionary).compress(text)
    back = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(blob)
    if back != text:
        raise RuntimeError("zstd with a dictionary did not return the text")
    return Primed(len(blob), len(dictionary.as_bytes()), len(material), is_trained)


def read_training(paths: Sequence[Path], text: bytes) -> list[bytes]:
    """Documents of ``.jsonl`` and ``.jsonl.zst`` files; any other file is one document.

    Raises :class:`RefusedError` for a file that has some of the text itself in it, since a
    dictionary of that would prove nothing.
    """
    lines = {line for line in text.splitlines() if len(line) >= _TELLING_BYTES} or {text}
    found: list[bytes] = []
    for path in paths:
        if path.is_dir():
            raise RefusedError(path, "is a directory")
        documents = _documents(path)
        if any(_is_part(document, text, lines) for document in documents):
            raise RefusedError(path, "holds some of the text itself; prime with other text")
        found += documents
    return found


def _documents(path: Path) -> list[bytes]:
    if not path.name.endswith((".jsonl", ".jsonl.zst")):
        return [path.read_bytes()]
    from pgolf_codec.lm.data.corpora import read_documents

    return [document.text.encode("utf-8", "surrogatepass") for document in read_documents(path)]


def _is_part(document: bytes, text: bytes, lines: set[bytes]) -> bool:
    """Whether one of both holds the other; ``lines`` are the long ones of ``text``."""
    if len(document) >= len(text):
        return text in document
    longest = max(document.splitlines(), key=len, default=b"")
    return longest in lines and document in text


def _trained(material: bytes, dictionary_bytes: int) -> Any:
    """A dictionary by zstd's own trainer; None if it says there is too little text."""
    import zstandard

    samples: list[Any] = [
        material[at : at + _SAMPLE_BYTES] for at in range(0, len(material), _SAMPLE_BYTES)
    ]
    try:
        return zstandard.train_dictionary(
            dictionary_bytes, samples, k=_SEGMENT_BYTES, d=_MATCH_BYTES
        )
    except zstandard.ZstdError:
        return None
