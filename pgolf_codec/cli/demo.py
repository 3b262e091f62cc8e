"""A comparison on English text that every Python installation has.

The text is the interpreter's own help topics; nothing is fetched.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from pgolf_codec.cli.options import add_model, add_threads
from pgolf_codec.errors import VerificationError

if TYPE_CHECKING:
    from pgolf_codec.eval.peers import Peer

MAX_TEXT_BYTES = 60_000
MIN_PARAGRAPH = 200
_BLANK_LINES = re.compile(r"\n\s*?\n")


class Row(NamedTuple):
    """One compressor's result on the text."""

    name: str
    n_bytes: int
    compress_seconds: float
    decompress_seconds: float


def demo_options(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_threads(parser)


def run_demo(options: argparse.Namespace) -> int:
    return run(model=options.model, threads=options.threads)


def run(*, model: str | os.PathLike[str] | None = None, threads: int | None = None) -> int:
    """Print the comparison and the receipt; returns the exit status."""
    import pgolf_codec
    from pgolf_codec.eval.peers import peers

    text = python_topics()
    print(
        f"The text: {len(text)} bytes of prose from Python's own help topics (pydoc_data).\n"
        "Compressing, then decompressing in another process ...\n",
        flush=True,
    )
    loaded = pgolf_codec.load_model(model)
    # Compiling is no part of the speed; the other process finds the kernels on disk.
    pgolf_codec.decompress(pgolf_codec.compress(text[:2000], model=loaded), model=loaded)
    try:
        receipt = pgolf_codec.verify(text, model=loaded, threads=threads)
    except VerificationError as error:
        print(error.receipt.describe(), end="")
        raise
    rows = [measure(peer, text) for peer in peers()]
    ours = Row(
        receipt.model_name, receipt.file_bytes, receipt.encode_seconds, receipt.decode_seconds
    )
    print(table([*rows, ours], len(text)))
    print(honesty(rows, ours, len(text), receipt.model_bytes))
    print(receipt.describe(), end="")
    return 0


def python_topics(max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Running text of this Python's help topics, in the order of their names, cut.

    Indented paragraphs are code, grammar and tables; short ones are headings.  Topics
    quote each other at length: each paragraph is taken once.
    """
    from pydoc_data.topics import topics

    paragraphs = (text for name in sorted(topics) for text in _BLANK_LINES.split(topics[name]))
    prose = (text for text in paragraphs if text[:1] != " " and len(text) >= MIN_PARAGRAPH)
    return "\n\n".join(dict.fromkeys(prose)).encode()[:max_bytes]


def measure(peer: Peer, text: bytes) -> Row:
    """One run each way; what comes back is compared."""
    start = time.perf_counter()
    blob = peer.compress(text)
    middle = time.perf_counter()
    if peer.decompress(blob) != text:
        raise RuntimeError(f"{peer.name} did not return the text")
    return Row(peer.name, len(blob), middle - start, time.perf_counter() - middle)


def table(rows: list[Row], n_text: int) -> str:
    """Bytes, bits per byte, kB/s both ways."""
    lines = [f"{'':<12}{'bytes':>9}{'bpb':>8}{'compress':>14}{'decompress':>14}"]
    lines += [
        f"{row.name:<12}{row.n_bytes:>9}{8 * row.n_bytes / n_text:>8.3f}"
        f"{_speed(n_text, row.compress_seconds):>14}{_speed(n_text, row.decompress_seconds):>14}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def honesty(peer_rows: list[Row], ours: Row, n_text: int, model_bytes: int) -> str:
    """What the table leaves out: the model, and how much text it takes to pay for it."""
    best = min(peer_rows, key=lambda row: row.n_bytes)
    saved = (best.n_bytes - ours.n_bytes) / n_text
    note = f"The model's own {model_bytes} bytes are not in the column: it came with the package."
    if saved <= 0:
        return f"{note}\nOn this text {best.name} is smaller without it.\n"
    return (
        f"{note}\nCounted in, it would break even with {best.name} at about "
        f"{model_bytes / saved / 1e6:.0f} MB of such text.\n"
    )


def _speed(n_bytes: int, seconds: float) -> str:
    return f"{n_bytes / 1000 / max(seconds, 1e-9):,.0f} kB/s"
