"""A report as one HTML page that needs nothing else: no script, no network, no library.

Its policy forbids scripts and requests, so that not even text which found a way around
the escaping could do a thing.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import pgolf_codec
from pgolf_codec.eval import report_charts as charts
from pgolf_codec.eval.bpb import way
from pgolf_codec.eval.peers import Primed
from pgolf_codec.eval.receipt import PREDICTOR_CLAIMS, PredictorReceipt, Receipt
from pgolf_codec.eval.report_charts import Part, Rate
from pgolf_codec.eval.report_text import cells, visible, worst_passages
from pgolf_codec.eval.trace import Costs, Trace

N_PASSAGES = 8
TEXT_BUDGET_BYTES = 700_000
"""Of HTML for the text itself, a cell a symbol."""
PASSAGE_BUDGET_BYTES = 30_000
_NO_TEXT = (
    "<p class='note'>This is a receipt without its text: where in the text the bits went, and how "
    "other compressors fare, is not in it; give its text with <code>--text</code>.</p>"
)
_NOT_RUN = (
    "<p class='note'><b>Not shown: the bits of each symbol.</b> They are the predictor's to tell, "
    "and no page runs foreign code by itself: name it with <code>--predictor</code>.</p>"
)
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class Classical:
    """Another compressor's size of the same text."""

    name: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a page tells; without the text it is a receipt, drawn."""

    name: str
    """Of the text, for the headline."""
    receipt: Receipt
    text: bytes | None = None
    trace: Trace | None = None
    classical: tuple[Classical, ...] = ()
    primed: Primed | None = None

    @property
    def best(self) -> Classical | None:
        """The smallest of the classical ones, not primed."""
        return min(self.classical, key=lambda one: one.n_bytes, default=None)


def draw(contents: Contents) -> str:
    """The whole document."""
    sections = [_headline(contents)]
    if contents.classical:
        sections += [_comparison(contents), _with_the_model(contents)]
    if contents.text and contents.trace is not None and contents.trace.bits.size:
        sections += [_heat(contents.text, contents.trace), _passages(contents.text, contents.trace)]
        sections.append(_position(contents.trace))
    elif contents.text and isinstance(contents.receipt, PredictorReceipt):
        sections.append(_NOT_RUN)
    sections += [_breakdown(contents), _receipt(contents.receipt)]
    if contents.text is None:
        sections.insert(1, _NO_TEXT)
    css = resources.files("pgolf_codec.eval").joinpath("report.css").read_text("utf-8")
    name = visible(contents.name.encode("utf-8", "surrogateescape"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{name}: where the bits went</title>\n<style>\n{css}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + f"\n<footer>pgolf-codec {pgolf_codec.__version__}. All sizes are of files that were "
        "written; only where lines cross is reckoned from them.</footer>\n"
        "</main></body></html>\n"
    )


def _headline(contents: Contents) -> str:
    receipt = contents.receipt
    n = receipt.input_bytes
    score = "–" if receipt.bpb_file is None else f"{receipt.bpb_file:.3f}"
    stamp = (
        '<span class="stamp ok">verified</span>'
        if receipt.verified
        else '<span class="stamp bad">not verified</span>'
    )
    said = (
        "another process decoded the file and got every byte back"
        if receipt.verified
        else f"does not hold: {html.escape(', '.join(receipt.failed))}"
    )
    ratio = f"{n / receipt.file_bytes:.2f} times smaller" if receipt.file_bytes and n else ""
    tiles = [("on disk", f"{receipt.file_bytes:,} bytes", f"of {n:,}; {ratio}" if ratio else "")]
    best = contents.best
    if best is not None:
        less = 100 * (1 - receipt.file_bytes / max(1, best.n_bytes))
        than = f"than {best.name}, the best classical one here"
        tiles.append(
            (
                "model not counted",
                f"{abs(less):.0f}% {'smaller' if less >= 0 else 'larger'}",
                than,
            )
        )
        even = break_even_bytes(receipt, 8 * best.n_bytes / max(1, n))
        tiles.append(
            (
                "model counted",
                "never smaller" if even is None else f"from {charts.in_bytes(even)} on",
                f"it has {receipt.model_bytes:,} bytes"
                + ("" if even is None else f"; then smaller than {best.name}"),
            )
        )
    else:
        tiles.append(("model", f"{receipt.model_bytes:,} bytes", "not counted in the score"))
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>" for name, value, more in tiles
    )
    name = visible(contents.name.encode("utf-8", "surrogateescape"))
    model = visible(receipt.model_name.encode("utf-8", "surrogateescape"))
    return (
        f'<header><div class="kicker">where the bits went</div><h1>{name}</h1>'
        f'<p class="soft">{n:,} bytes, coded with {model}. {stamp} {said}.</p>'
        f'<div class="hero"><div><div class="score">{score}</div><div>bits per byte</div></div>'
        f'<dl class="tiles">{shown}</dl></div></header>'
    )


def _comparison(contents: Contents) -> str:
    """Bytes of everyone, the smallest first; what a decoder needs apart, and added."""
    receipt, n = contents.receipt, contents.receipt.input_bytes
    name = visible(receipt.model_name.encode("utf-8", "surrogateescape"))
    name = name if isinstance(receipt, PredictorReceipt) else f"pgolf-codec, {name}"
    rows = [(name, receipt.file_bytes, receipt.model_bytes, "ours")]
    rows += [(one.name, one.n_bytes, 0, "") for one in contents.classical]
    primed = contents.primed
    if primed is not None:
        name = "zstd --ultra -22, primed"
        rows.append((name, primed.n_bytes, primed.dictionary_bytes, "prime"))
    most = max(n_bytes for _, n_bytes, _, _ in rows)
    body = "".join(
        f'<tr class="{css}"><td>{name}</td><td class="wide">{charts.bar(n_bytes / most)}</td>'
        f"<td>{n_bytes:,}</td><td>{8 * n_bytes / n:.3f}</td>"
        f'<td class="optional">{f"{needs:,}" if needs else "–"}</td>'
        f'<td class="optional">{n_bytes + needs:,}</td></tr>'
        for name, n_bytes, needs, css in sorted(rows, key=lambda row: row[1])
    )
    head = (
        '<tr><th>compressor</th><th class="wide"></th><th>bytes</th><th>bits a byte</th>'
        '<th class="optional">its decoder needs</th><th class="optional">together</th></tr>'
    )
    return (
        "<section><h2>Beside other compressors</h2>"
        "<p class='soft'>The same bytes, each at its strongest usual setting.</p>"
        f'<div class="scroll"><table>{head}{body}</table></div>{_about_priming(contents)}'
        "</section>"
    )


def _about_priming(contents: Contents) -> str:
    primed, model_bytes = contents.primed, contents.receipt.model_bytes
    if primed is None:
        return (
            "<p class='note'><b>Not shown: a primed control.</b> The model was trained before it "
            "saw this text, the others were not. The fair classical control is zstd with a "
            f"dictionary as large as the model, {model_bytes:,} bytes, trained on text of this "
            "kind that is not this text, best on what the model was trained on: name such files "
            "with <code>--prime</code>, some ten times as many bytes as the dictionary "
            "has.</p>"
        )
    made = "trained by zstd on" if primed.is_trained else "which is the end of, for want of more,"
    return (
        "<p class='note'>The model was trained before it saw this text, so one of the others was "
        f"primed: zstd with a dictionary of {primed.dictionary_bytes:,} bytes, {made} "
        f"{primed.training_bytes:,} bytes of other text.</p>"
    )


def _with_the_model(contents: Contents) -> str:
    """Where the lines cross when all that a decoder needs is counted."""
    receipt, best, n = contents.receipt, contents.best, contents.receipt.input_bytes
    assert best is not None
    name = "the predictor" if isinstance(receipt, PredictorReceipt) else "pgolf-codec"
    ours = Rate(name, 8 * receipt.file_bytes / n, receipt.model_bytes, "curve")
    others = [Rate(best.name, 8 * best.n_bytes / n, 0, "flat")]
    if contents.primed is not None:
        bpb, needs = 8 * contents.primed.n_bytes / n, contents.primed.dictionary_bytes
        others.append(Rate("zstd, primed", bpb, needs, "primed"))
    even = break_even_bytes(receipt, others[0].bpb)
    if even is None:
        said = (
            f"On this text {best.name} is smaller even without it, so there is no size from which "
            "the model pays."
        )
    else:
        said = (
            f"Model and archive together are smaller than {best.name} from "
            f"<b>{charts.in_bytes(even)}</b> of such text on, if its rate holds: "
            f"{receipt.model_bytes:,} bytes of model over a gain of "
            f"{others[0].bpb - ours.bpb:.3f} bits a byte."
        )
    return (
        f"<section><h2>The model counted in</h2><p class='soft'>{said}</p><figure>"
        f"{charts.break_even(ours, others, even)}"
        "<figcaption class='note'>Bits a byte with everything that a decoder needs, over the size "
        "of the text, at this text's rates.</figcaption></figure></section>"
    )


def _heat(text: bytes, trace: Trace) -> str:
    shown, stop = cells(text, trace, 0, len(trace.bits), TEXT_BUDGET_BYTES)
    n_shown = int(trace.edges[stop])
    part = "all of it" if stop == len(trace.bits) else f"its first {n_shown:,} bytes"
    legend = charts.levels(trace) if trace.is_symbol.any() else ""
    return (
        "<section><h2>Every symbol by its bits</h2>"
        "<p class='soft'>The colour is what a symbol cost in bits a byte, the model knowing what "
        "stands before it: so colour times width is size on disk. Point at one for its bits. "
        f"Here is {part}.</p>{legend}"
        f'<div class="heat tall" tabindex="0">{shown}</div></section>'
    )


def _passages(text: bytes, trace: Trace) -> str:
    found = worst_passages(trace, N_PASSAGES)
    if not found:
        return ""
    figures = []
    for passage in found:
        shown, _ = cells(text, trace, passage.first, passage.end, PASSAGE_BUDGET_BYTES)
        where = f"bytes {passage.start_byte:,} to {passage.start_byte + passage.n_bytes:,}"
        figures.append(
            f"<figure><figcaption><b>{passage.bpb:.2f}</b> bits a byte, {where}</figcaption>"
            f'<div class="heat">{shown}</div></figure>'
        )
    return (
        "<section><h2>The worst passages</h2><p class='soft'>Where the model knew least, of all "
        f'the text.</p><div class="passages">{"".join(figures)}</div></section>'
    )


def _position(trace: Trace) -> str:
    body = (
        "<section><h2>Along the text</h2>"
        "<p class='soft'>Bits a byte where they arise, and their mean from the start on.</p>"
        f"<figure>{charts.curve(trace)}<figcaption class='note'>"
        f"{_key_of_curve(trace)}</figcaption></figure>"
    )
    distance = charts.by_distance(trace)
    if distance:
        body += (
            f"<h3>What a start costs</h3><p class='note'>{_starts(trace)} Bits a byte by the "
            f"distance from a start.</p><figure>{distance}</figure>"
        )
    return body + "</section>"


def _starts(trace: Trace) -> str:
    """What begins with nothing."""
    n = len(trace.starts)
    if n == 1:
        return "The text is coded as one, which starts from nothing."
    if trace.costs is None:
        return f"There are {n:,} documents, each predicted from nothing."
    return f"The text is cut into {n:,} streams that are coded side by side, each from nothing."


def _key_of_curve(trace: Trace) -> str:
    entries = [("p0", "here"), ("p1", "mean so far")]
    if 1 < len(trace.starts) <= charts.MOST_MARKS:
        entries.append(("p2", f"a {'document' if trace.costs is None else 'stream'} starts"))
    return charts.key(entries)


def _breakdown(contents: Contents) -> str:
    receipt = contents.receipt
    costs = None if contents.trace is None else contents.trace.costs
    parts = _parts_of_receipt(receipt) if costs is None else _parts(costs)
    parts = [part for part in parts if part[1]]
    total = max(1, receipt.file_bytes)
    rows = "".join(
        f"<tr><td>{name}</td><td>{_n_bytes(value)}</td><td>{100 * value / total:.3f}%</td>"
        f'<td class="optional">{8 * value / max(1, receipt.input_bytes):.4f}</td>'
        f'<td class="long optional">{meaning}</td></tr>'
        for name, value, meaning in parts
    )
    bars = [
        Part(value, f"p{i % 5}", f"{name}: {_n_bytes(value)} bytes")
        for i, (name, value, _) in enumerate(parts)
    ]
    stacks = f"<span>the file</span>{charts.stacked(bars)}"
    if len(bars) > 1 and bars[0].value > 0.9 * total:
        stacks += f"<span>all but the first</span>{charts.stacked(bars[1:])}"
    swatches = [(f"p{i % 5}", name) for i, (name, _, _) in enumerate(parts)]
    head = (
        '<tr><th>part</th><th>bytes</th><th>share</th><th class="optional">bits a byte</th>'
        '<th class="optional"></th></tr>'
    )
    return (
        "<section><h2>What the file is made of</h2>"
        f"<p class='soft'>{receipt.file_bytes:,} bytes on disk.</p>"
        f'<div class="stack">{stacks}</div>{charts.key(swatches)}'
        f'<div class="scroll"><table>{head}{rows}</table></div>{_frames(contents.trace)}'
        f"{_way(receipt)}</section>"
    )


def _parts(costs: Costs) -> list[tuple[str, float, str]]:
    return [
        ("entropy", costs.entropy_bits / 8, "what the model's integer frequencies say"),
        ("without a model", costs.unmodelled_bytes, "frames stored, or coded with zstd"),
        ("coder", costs.coder_bits / 8, "what the range coder adds: ends of streams, rounding"),
        ("stream sizes", costs.table_bytes, "so that streams can be decoded side by side"),
        ("frame headers", costs.frame_bytes, "method, sizes, two checks"),
        ("wrapping", costs.wrapping_bytes, "header, index, digest of the whole"),
    ]


def _parts_of_receipt(receipt: Receipt) -> list[tuple[str, float, str]]:
    entropy, coded = receipt.entropy_bits / 8, receipt.coded_bits / 8
    lost, order = 0, 0
    if isinstance(receipt, PredictorReceipt):
        lost, order = receipt.residual_bytes, receipt.order_bytes
    return [
        ("entropy", entropy - lost - order, "what the frequencies say"),
        ("coder", coded - entropy, "what the coder adds"),
        ("lost", lost, "what the tokens lose of the file"),
        ("order", order, "the order of the documents"),
        ("headers", receipt.file_bytes - coded, "headers, checks, index, digest"),
    ]


def _frames(trace: Trace | None) -> str:
    if trace is None or not trace.frames:
        return ""
    counts: dict[str, list[int]] = {}
    for frame in trace.frames:
        counts.setdefault(frame.method.name.lower(), []).append(frame.raw_bytes)
    told = ", ".join(
        f"{len(sizes)} by {name} ({sum(sizes):,} bytes)" for name, sizes in sorted(counts.items())
    )
    n = len(trace.frames)
    return f"<p class='note'>{n} frame{'s' if n > 1 else ''}: {told}.</p>"


def _way(receipt: Receipt) -> str:
    """From a claimed score to the file, for a foreign predictor."""
    if not isinstance(receipt, PredictorReceipt) or not (steps := way(receipt)):
        return ""
    rows = "".join(
        f"<tr><td>{step.name}</td><td>{step.bpb:+.4f}</td>"
        f'<td class="long">{html.escape(step.meaning)}</td></tr>'
        for step in steps
    )
    total = f"<tr class='ours'><td>the file</td><td>{receipt.bpb_file:.4f}</td><td></td></tr>"
    return (
        f"<h3>From the claim to the file</h3><div class='scroll'><table>{rows}{total}</table></div>"
    )


def _receipt(receipt: Receipt) -> str:
    claims = "".join(
        f'<dt class="{"ok" if holds else "bad"}">{"holds" if holds else "does not hold"}</dt>'
        f"<dd>{html.escape(PREDICTOR_CLAIMS.get(name, name))}</dd>"
        for name, holds in receipt.claims.items()
    )
    versions = ", ".join(f"{name} {value}" for name, value in receipt.versions.items())
    facts: Sequence[tuple[str, str]] = [
        ("text", f"{receipt.input_bytes:,} bytes, SHA-256 {receipt.input_sha256}"),
        ("decoded", f"SHA-256 {receipt.decoder_sha256}" if receipt.decoder_sha256 else "nothing"),
        ("model", f"{receipt.model_name}, {receipt.model_bytes:,} bytes"),
        ("fingerprint", receipt.model_fingerprint),
        ("encoded in", f"{receipt.encode_seconds:.2f} s"),
        ("decoded in", f"{receipt.decode_seconds:.2f} s, by a process of its own"),
        ("versions", versions),
        *([("error", receipt.decoder_error)] if receipt.decoder_error else []),
    ]
    shown = "".join(
        f"<dt>{name}</dt><dd>{visible(value.encode('utf-8', 'surrogateescape'))}</dd>"
        for name, value in facts
    )
    return (
        f'<section><h2>The receipt</h2><dl class="facts">{claims}</dl>'
        f'<details><summary>every fact of it</summary><dl class="facts">{shown}</dl></details>'
        "</section>"
    )


def break_even_bytes(receipt: Receipt, other_bpb: float) -> float | None:
    """Size of a text, at this one's rates, from which model and archive are smaller."""
    gain_bpb = other_bpb - 8 * receipt.file_bytes / max(1, receipt.input_bytes)
    return 8 * receipt.model_bytes / gain_bpb if gain_bpb > 0 else None


def _n_bytes(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.1f}"
