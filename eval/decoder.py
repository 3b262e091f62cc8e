"""The other process of a verification: sees an archive and an artifact, nothing else.

Started by :mod:`pgolf_codec.eval.verify` as ``python -I -c BOOT PACKAGE_FOLDER ARCHIVE
ARTIFACT THREADS``; prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence

import pgolf_codec

BOOT = """\
import sys
sys.path.append(sys.argv[1])
from pgolf_codec.eval.decoder import main
main(sys.argv[2:])
"""
_BLOCK_BYTES = 1 << 18


def main(arguments: Sequence[str]) -> None:
    """Decode, and say what came out."""
    archive, artifact, threads = arguments
    model = pgolf_codec.load_model(artifact)
    fingerprint = model.predictor.fingerprint.hex()
    digest, n_bytes = hashlib.sha256(), 0
    start = time.perf_counter()
    with pgolf_codec.open(archive, model=model, threads=int(threads) or None) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            n_bytes += len(block)
    report = {
        "sha256": digest.hexdigest(),
        "n_bytes": n_bytes,
        "model_fingerprint": fingerprint,
        "seconds": time.perf_counter() - start,
    }
    json.dump(report, sys.stdout)
