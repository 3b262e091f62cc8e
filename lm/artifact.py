"""From a trained model to the bytes of its artifact: the one way, for builds and for users.

:func:`pack` calibrates, quantizes and codes, or searches for the steps at which the
artifact has a given size; docs/QUANTIZERS.md tells why it is done so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pgolf_codec.codec.tokenizer import Tokenizer
from pgolf_codec.errors import ConfigError, TensorError
from pgolf_codec.lm.conversion.calibration import calibrate
from pgolf_codec.lm.conversion.export import (
    STEPS_PER_SIGMA,
    Search,
    calibration_rows,
    exportable,
    merge_scales,
    quantize,
)
from pgolf_codec.lm.data.shards import first_ids
from pgolf_codec.lm.export_config import ExportConfig
from pgolf_codec.lm.floats.model import Transformer
from pgolf_codec.lm.integers.weights import IntegerWeights
from pgolf_codec.quant.artifact import dump_artifact
from pgolf_codec.quant.budget import Log, fit
from pgolf_codec.quant.quantizers import Gptq, Nearest, Quantizer, Range, curvatures

RANGE_ROWS = 16
"""Rows of calibration text that the ranges of activations are taken from."""
BPB_BYTES = 16
"""Room in an artifact's size for the bpb, which is measured later and stated in its head."""


def pack(
    model: Transformer,
    tokens: Path,
    tokenizer: Tokenizer,
    config: ExportConfig,
    *,
    name: str,
    seq_len: int,
    more_bytes: int = 0,
    keep: Path | None = None,
    log: Log = print,
) -> bytes:
    """The ``.pglm`` of a trained model; the same bytes for the same arguments on one machine.

    ``tokens`` is a shard or a file of training ids, uint16, calibrated on in rows of ``seq_len``.
    ``more_bytes`` count against ``max_bytes`` beside the artifact.  ``keep`` is a file by
    which a search that was stopped goes on.  Raises :class:`BudgetError` if none lands,
    :class:`ExportError` for what the integers lack, :class:`ConfigError` for too few
    tokens, :class:`TensorError` for NaN and infinity.
    """
    for parameter, tensor in model.named_parameters():
        if not tensor.isfinite().all():
            raise TensorError(f"tensor {parameter}: NaN or infinity among the weights")
    rows = calibration_rows(tokens, config.calibration_rows, seq_len)
    text = first_ids(tokens, config.counted_tokens)
    if text.max() >= model.config.vocab_size:
        raise ConfigError(f"{tokens}: token {text.max()}; the model has {model.config.vocab_size}")

    def dump(weights: IntegerWeights) -> bytes:
        return dump_artifact(weights, tokenizer, name=name, coder=config.coder)

    bits = {"matrix": config.bits, "embedding": config.embedding_bits}
    uncalibrated: dict[str, Quantizer] = {
        "nearest": Nearest(STEPS_PER_SIGMA),
        "range": Range(bits),
        "searched": Gptq(bits, None),
    }
    if config.quantizer in uncalibrated:
        return dump(quantize(model, rows[:RANGE_ROWS], uncalibrated[config.quantizer]))
    log(f"calibrating on {rows.numel():,} tokens")
    merged = merge_scales(exportable(model))
    moments = calibrate(merged, rows, text)
    if config.quantizer == "clipped":
        known = curvatures(moments)

        def clipped(octaves: float) -> bytes:
            clips = {"matrix": config.clip_sigmas, "embedding": config.embedding_clip_sigmas}
            coarser = {name: clip * 2.0**octaves for name, clip in clips.items()}
            return dump(quantize(merged, rows[:RANGE_ROWS], Gptq(bits, coarser, known)))

        return _within(clipped, config.max_bytes - more_bytes if config.max_bytes else 0, log)
    search = Search(
        merged,
        rows[:RANGE_ROWS],
        moments,
        config.states,
        price_of_bits=config.price_of_bits,
        rules=config.few_levels,
        columns=config.embedding_columns,
    )
    if not config.max_bytes:
        return dump(search.at(config.cost))
    weights = search.within(
        lambda weights: len(dump(weights)) + BPB_BYTES + more_bytes,
        config.max_bytes,
        first_cost=config.cost,
        keep=keep,
        key=f"{config} {more_bytes} {name}",
        log=log,
    )
    return dump(weights)


def _within(make: Callable[[float], bytes], max_bytes: int, log: Log) -> bytes:
    """``make(0)`` if it has at most ``max_bytes`` (0: any), else the steps that just fit.

    Never finer ones: a range of few integers that ends nearer cuts more off than it gains.
    """
    made = {0.0: make(0.0)}
    if not max_bytes or len(made[0.0]) + BPB_BYTES <= max_bytes:
        return made[0.0]

    def weigh(octaves: float) -> int:
        if octaves not in made:
            made.clear()
            made[octaves] = make(octaves)
        return len(made[octaves]) + BPB_BYTES

    found = fit(weigh, max_bytes, bytes_per_octave=len(made[0.0]) / 4, log=log)
    return made.get(found.octaves) or make(found.octaves)
