"""Make the golden files of the versions that this tree writes: ``python tests/golden/make.py``.

It replaces ``FOLDER``.  Once a release has written a version, its folder stays as it is:
a new version of the format or of the numerics gets the next one.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))  # for tiny_model.py, environments.py

from environments import LENGTH, N_STREAMS, digest
from tiny_model import PROSE, prose_ids, tiny_tokenizer, tiny_weights

from pgolf_codec.codec.adaptation import adapted
from pgolf_codec.codec.inspection import inspect
from pgolf_codec.codec.stream import compress
from pgolf_codec.lm.graph import NUMERICS_VERSION
from pgolf_codec.quant.artifact import FORMAT_VERSION, dump_artifact, load_artifact

FOLDER = Path(__file__).parent / "v2"

FRAME_BYTES = 1024


def originals() -> dict[str, tuple[bytes, int]]:
    """Name -> (bytes, streams): one case a path through the decoder."""
    prose = PROSE.encode()
    noise = random.Random(1).randbytes(FRAME_BYTES)
    return {
        "empty": (b"", 1),
        "one_byte": (b"\n", 1),
        "prose": (prose, 2),
        "many_streams": (prose[:600], 64),
        "unicode": (
            "The miller said: Grüße! Das Mühlrad — «старое» — turns; 水車 \u2581 🛶 e\u0301 "
            "\U0010ffff\u200b \ufeff and the boat was still there.\n".encode(),
            1,
        ),
        "crlf": (prose[:400].replace(b"\n", b"\r\n") + b"\r\n\r\r\n\n \t  \0 the <s> <unk> ", 1),
        "not_utf8": (b"the boat \xff\xfe\xc3( \xed\xa0\x80 that came \x80 down the river", 1),
        "adapted": (prose[:500], 2),
        "all_methods": (bytes(FRAME_BYTES) + noise + prose[: FRAME_BYTES + 200], 3),
    }


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    tokenizer = tiny_tokenizer()
    artifact = dump_artifact(tiny_weights(tokenizer), tokenizer, name="tiny")
    model = load_artifact(artifact)
    archives: dict[str, Any] = {}
    for name, (raw, streams) in originals().items():
        writing = adapted(model) if name == "adapted" else model
        blob = compress(raw, model=writing, threads=1, streams=streams, frame_bytes=FRAME_BYTES)
        (FOLDER / f"{name}.pgz").write_bytes(blob)
        archives[name] = {
            "sha256": hashlib.sha256(blob).hexdigest(),
            "raw_bytes": len(raw),
            "raw_sha256": hashlib.sha256(raw).hexdigest(),
            "methods": [frame.method.name.lower() for frame in inspect(blob).members[0].frames],
        }
    (FOLDER / "tiny.pglm").write_bytes(artifact)
    ids = prose_ids(tokenizer, N_STREAMS, LENGTH)
    pinned = {
        "artifact_format": FORMAT_VERSION,
        "numerics": NUMERICS_VERSION,
        "artifact_sha256": hashlib.sha256(artifact).hexdigest(),
        "intervals_sha256": digest(*model.predictor.session(N_STREAMS).intervals(ids)),
        "archives": archives,
    }
    (FOLDER / "pinned.json").write_text(json.dumps(pinned, indent=2) + "\n", encoding="utf-8")
    for name, archive in archives.items():
        print(f"{name}: {archive['raw_bytes']} bytes, {' '.join(archive['methods'])}")


if __name__ == "__main__":
    main()
