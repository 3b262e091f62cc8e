"""Verification of anyone's predictor: coded by one process, decoded by another.

The first process has the predictor and the text, the second the predictor and the
archive.  Both make the same calls in the same order, one pass, so a float predictor
repeats itself on the same machine; on another one it need not.

Documents that are independent are coded in *bundles*, each by itself, whatever the
number of processes; so ranks can share the work, and nothing that is summed depends on it.
"""

from __future__ import annotations

import hashlib
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pgolf_codec
from pgolf_codec.codec.sharding import OneRank, Ranks, together
from pgolf_codec.errors import FormatError, PredictorError, VerificationError
from pgolf_codec.eval import archive
from pgolf_codec.eval.bpb import Sizes
from pgolf_codec.eval.host import Host, Limits
from pgolf_codec.eval.receipt import PREDICTOR_CLAIMS, PredictorReceipt
from pgolf_codec.eval.verify import ARCHIVE, Decoded, Encoded, check, measured

Progress = Callable[[int], None]
"""Called with the raw bytes that are done, about."""

BUNDLE_DOCUMENTS = 64
"""Independent documents that share a stream, so that its end costs little, and that
a rank takes together."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is to be coded: documents, in their order, and the file they come from."""

    documents: tuple[bytes, ...]
    path: Path | None = None
    is_corpus: bool = False
    """The file has a document a line."""

    @property
    def data(self) -> bytes:
        return b"".join(self.documents)

    @property
    def lengths(self) -> list[int]:
        return [len(document) for document in self.documents]

    def bundles(self, *, independent: bool) -> list[Text]:
        """Parts that are coded each by itself: some documents, if they are independent."""
        step = BUNDLE_DOCUMENTS if independent else max(1, len(self.documents))
        starts = range(0, max(1, len(self.documents)), step)
        return [Text(self.documents[at : at + step], self.path) for at in starts]

    @property
    def hidden(self) -> list[Path]:
        """What the decoding process must not see."""
        return [] if self.path is None else [self.path]

    @classmethod
    def read(cls, path: Path, *, by_documents: bool = False) -> Text:
        """A file as one document, or a corpus file (``.jsonl``, ``.jsonl.zst``) as many.

        Raises :class:`FormatError` for what is no corpus file.
        """
        if not by_documents:
            return cls((path.read_bytes(),), path)
        if path.suffix == ".txt":
            raise FormatError(f"{path}: a .txt is one document, not one a line")
        from pgolf_codec.lm.data.corpora import read_documents

        texts = (document.text for document in read_documents(path))
        documents = tuple(text.encode("utf-8", "surrogatepass") for text in texts)
        return cls(documents, path, is_corpus=True)


@dataclass(frozen=True, slots=True)
class Files:
    """Files that a process needs, each with its size and SHA-256."""

    entries: Mapping[Path, tuple[int, str]]

    @classmethod
    def of(cls, host: Host) -> Files:
        """What Python code opened there, the predictor's source, and what it declares."""
        names = {host.about["source"], *host.about["declared_files"], *host.ask("files")["files"]}
        entries = {}
        for path in sorted({Path(name).resolve() for name in names}):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise PredictorError(f"{path}: {error.strerror}, but it is needed") from None
            entries[path] = (len(data), hashlib.sha256(data).hexdigest())
        return cls(entries)

    @property
    def n_bytes(self) -> int:
        return sum(size for size, _ in self.entries.values())

    @classmethod
    def all(cls, several: Iterable[Files]) -> Files:
        """Of several processes."""
        return cls({path: entry for files in several for path, entry in files.entries.items()})

    def fingerprint(self, earlier: Files | None = None) -> str:
        """Of all contents; those that ``earlier`` has, too, as they were then."""
        known = {} if earlier is None else earlier.entries
        digests = [known.get(path, entry)[1] for path, entry in self.entries.items()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def verify_predictor(
    spec: str,
    text: Text,
    *,
    claimed_bpb: float | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    ranks: Ranks | None = None,
) -> PredictorReceipt:
    """Code ``text`` with the predictor that ``spec`` names, decode it elsewhere, compare.

    With several ``ranks`` each takes its share of the bundles, and all get the receipt of
    the whole, which is the one that a single process gets, but for the seconds.

    Raises :class:`VerificationError`, with the receipt, when a claim does not hold, and
    :class:`PredictorError` when the predictor fails before there is an archive.
    """
    ranks = ranks or OneRank()
    shares = together(ranks, lambda: _share(spec, text, ranks, limits, progress))
    receipt = settle(spec, text, shares, claimed_bpb)
    if not receipt.verified:
        why = f" ({receipt.decoder_error})" if receipt.decoder_error else ""
        raise VerificationError(f"does not hold: {', '.join(receipt.failed)}{why}", receipt)
    return receipt


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank did: its bundles, by their index, and what its processes needed."""

    packed: dict[int, dict[str, Any]]
    """Answers of :func:`pgolf_codec.eval.tasks.pack` and, under "claim", of ``claim``."""
    decoded: dict[int, Decoded]
    about: dict[str, Any]
    files: Files
    """Of the encoding process."""
    needed: Files
    """Of the decoding one."""


def _share(
    spec: str, text: Text, ranks: Ranks, limits: Limits | None, progress: Progress | None
) -> Share:
    with Host(spec, limits) as host:
        bundles = text.bundles(independent=host.about["independent"])
        if len(bundles) == 1 < ranks.size and not host.about["independent"]:
            raise PredictorError("contexts cross documents, so they can't be dealt to ranks")
        mine = dict([*enumerate(bundles)][ranks.rank :: ranks.size])
        packed = {}
        done = _Done(progress)
        for index, bundle in mine.items():
            start = time.perf_counter()
            data, lengths = bundle.data, bundle.lengths
            packed[index] = host.ask("pack", done.tell(bundle), data=data, lengths=lengths)
            packed[index]["seconds"] = time.perf_counter() - start
            packed[index]["claim"] = host.ask("claim", data=data, lengths=lengths)
        files, about = Files.of(host), host.about
    decoded, needed = decode_elsewhere(
        spec, {i: packed[i]["archive"] for i in mine}, mine, text.hidden, limits, _Done(progress)
    )
    return Share(packed, decoded, about, files, needed or files)


def decode_elsewhere(
    spec: str,
    archives: Mapping[int, bytes],
    bundles: Mapping[int, Text],
    hidden: Sequence[Path],
    limits: Limits | None,
    done: _Done,
) -> tuple[dict[int, Decoded], Files | None]:
    """Let a fresh process, which can't see the text, decode; and what it needed to do so."""
    decoded = {index: Decoded("", 0, "", 0.0, error="not decoded") for index in archives}
    try:
        with Host(spec, limits, hidden=hidden) as host:
            for index, archive in archives.items():
                start = time.perf_counter()
                answer = host.ask("unpack", done.tell(bundles[index]), archive_bytes=archive)
                same = answer["lengths"] == bundles[index].lengths
                digest = hashlib.sha256(answer["data"]).hexdigest() if same else "other documents"
                seconds = time.perf_counter() - start
                decoded[index] = Decoded(digest, len(answer["data"]), "", seconds)
            return decoded, Files.of(host)
    except PredictorError as error:
        failed = Decoded("", 0, "", 0.0, error=str(error))
        return {i: failed if one.error else one for i, one in decoded.items()}, None


@dataclass(frozen=True, slots=True)
class Claim:
    """The score that the predictor's author would report."""

    bits: float
    n_bytes: int

    @classmethod
    def of(cls, packed: Sequence[Mapping[str, Any]], raw_bytes: int, bpb: float | None) -> Claim:
        """The ``bpb`` that is given, or what the author's own evaluation says."""
        if bpb is not None:
            return cls(bpb * raw_bytes, raw_bytes)
        claims = [one["claim"] for one in packed]
        bits = [
            one["stepped_bits"] if claim["bits"] is None else claim["bits"]
            for one, claim in zip(packed, claims, strict=True)
        ]
        return cls(math.fsum(bits), sum(claim["counted_bytes"] for claim in claims))

    @property
    def bpb(self) -> float | None:
        return self.bits / self.n_bytes if self.n_bytes else None


def settle(
    spec: str, text: Text, shares: Sequence[Share], claimed_bpb: float | None
) -> PredictorReceipt:
    """Facts and claims of all bundles, in their order, into one receipt."""
    about = shares[0].about
    by_index = {i: (one, share.decoded[i]) for share in shares for i, one in share.packed.items()}
    packed = [by_index[index][0] for index in sorted(by_index)]
    found = [by_index[index][1] for index in sorted(by_index)]
    needed, files = Files.all(share.needed for share in shares), Files.all(s.files for s in shares)
    now, then = needed.fingerprint(), needed.fingerprint(files)
    encoded = _encoded(text, packed)
    decoded = _decoded(text, found, about["independent"], now)
    claimed_bpb = about["claimed_bpb"] if claimed_bpb is None else claimed_bpb
    claim = Claim.of(packed, encoded.n_bytes, claimed_bpb)
    order_bytes = sum(one["order_bytes"] for one in packed)
    residual_bytes = sum(one["residual_bytes"] for one in packed)
    n_symbols_coded = sum(one["n_symbols_coded"] for one in packed)
    slack_bits = sum(rounding_bits(one["n_symbols_coded"], about["n_symbols"]) for one in packed)
    stream_bits = encoded.sizes.coded_bits - 8 * (order_bytes + residual_bytes)
    claims = check(encoded, decoded, then) | {
        "claim_is_coded": stream_bits <= claim.bits + slack_bits,
        "claim_divides_by_the_file": claim.n_bytes <= encoded.n_bytes,
    }
    assert claims.keys() == PREDICTOR_CLAIMS.keys()
    return PredictorReceipt(
        model_name=spec,
        model_fingerprint=now,
        model_bytes=needed.n_bytes,
        versions=versions(),
        claimed_bits=claim.bits,
        claimed_bytes=claim.n_bytes,
        claimed_bpb=claim.bpb,
        n_documents=len(text.documents),
        n_symbols_coded=n_symbols_coded,
        order_bytes=order_bytes,
        residual_bytes=residual_bytes,
        isolation=about["isolation"],
        **measured(encoded, decoded, claims),
    )


def rounding_bits(n_symbols_coded: int, n_symbols: int) -> float:
    """What integer frequencies and the coder may add to float probabilities.

    A unit of 2**-24 for each of V symbols costs at most V · 2**-24 / ln 2 bits a symbol
    coded; rounding and the end of the stream are covered by the rest.
    """
    return 64 + n_symbols_coded * (1.5 * n_symbols / (1 << 24) + 1e-4)


def versions() -> dict[str, str | int]:
    """Of what float probabilities may depend on."""
    return {
        "pgolf_codec": pgolf_codec.__version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "platform": platform.platform(),
    }


def _encoded(text: Text, packed: Sequence[Mapping[str, Any]]) -> Encoded:
    """Of all bundles; the archive of the whole is written to the disk and weighed there."""
    data = text.data
    with tempfile.TemporaryDirectory(prefix="pgolf-codec-") as folder:
        path = Path(folder) / ARCHIVE
        path.write_bytes(archive.joined([one["archive"] for one in packed]))
        disk_bytes = path.stat().st_size
    return Encoded(
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
        sizes=Sizes(
            raw_bytes=sum(text.lengths),
            entropy_bits=math.fsum(one["entropy_bits"] for one in packed),
            coded_bits=sum(one["coded_bits"] for one in packed),
            file_bytes=sum(archive.joined_bytes(len(one["archive"])) for one in packed),
        ),
        disk_bytes=disk_bytes,
        seconds=math.fsum(one["seconds"] for one in packed),
    )


def _decoded(text: Text, found: Sequence[Decoded], independent: bool, needed: str) -> Decoded:
    """Of all bundles: the digest of the whole, if each of them came back."""
    bundles = text.bundles(independent=independent)
    wrong = [
        index
        for index, (one, bundle) in enumerate(zip(found, bundles, strict=True))
        if one.sha256 != hashlib.sha256(bundle.data).hexdigest()
    ]
    digest = f"bundle {wrong[0]} differs" if wrong else hashlib.sha256(text.data).hexdigest()
    error = next((one.error for one in found if one.error), "")
    return Decoded(
        sha256="" if error else digest,
        n_bytes=sum(one.n_bytes for one in found),
        model_fingerprint=needed,
        seconds=math.fsum(one.seconds for one in found),
        error=error,
    )


class _Done:
    """Progress over several bundles: symbols are told, bytes are wanted."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._before = 0

    def tell(self, bundle: Text) -> Progress | None:
        """For the next bundle; symbols count as bytes while nobody knows better."""
        if self._progress is None:
            return None
        progress, before, most = self._progress, self._before, sum(bundle.lengths)
        self._before += most
        return lambda n_done: progress(before + min(n_done, most))
