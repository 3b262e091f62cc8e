"""What a lossy tokenizer never pays for: the price of restoring the raw bytes.

``lossy.py CORPUS.jsonl TOKENIZER.model...`` prints, for each SentencePiece model, the
challenge's count of bytes, the raw bytes, and the residual of the referee.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pgolf_codec.codec.sentencepiece_model import parse
from pgolf_codec.eval import residual
from pgolf_codec.lm.data.corpora import read_documents
from pgolf_codec.lm.data.tokenizers import challenge_byte_counts


def main(corpus: Path, tokenizers: list[Path]) -> None:
    from sentencepiece import SentencePieceProcessor

    texts = [document.text for document in read_documents(corpus)]
    raw = [text.encode() for text in texts]
    n_raw = sum(map(len, raw))
    print(f"{corpus.name}: {len(texts)} documents, {n_raw} bytes")
    for path in tokenizers:
        proto = path.read_bytes()
        processor = SentencePieceProcessor(model_proto=proto)
        ids = [processor.encode(text) for text in texts]
        counts = challenge_byte_counts(parse(proto)[0])
        n_counted = sum(counts.of(np.array([1, *document])) for document in ids)
        lost = residual.encode(raw, [processor.decode(document).encode() for document in ids])
        print(
            f"{path.name}: {sum(map(len, ids))} tokens, {n_counted} bytes counted, "
            f"{len(lost)} bytes restore the rest, {8 * len(lost) / n_raw:.4f} bpb"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
