"""All streams of a group of frames in lock step on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgolf_codec.codec import frames, lanes, payload
from pgolf_codec.codec.adaptation import AdaptedModel
from pgolf_codec.codec.container import Method
from pgolf_codec.codec.frame_coder import ONE_BY_ONE, CodedFrame, Progress, or_error
from pgolf_codec.codec.frames import EncodedFrame
from pgolf_codec.codec.lanes import Lanes, Schedule, Tick
from pgolf_codec.codec.model import Model
from pgolf_codec.codec.model_frame import ModelPayload, default_streams
from pgolf_codec.codec.payload import CodedStream
from pgolf_codec.errors import CorruptError, DeviceError, FormatError

T = TypeVar("T")
R = TypeVar("R")


class Device(Protocol):
    """Where models run in lanes."""

    def max_lanes(self, model: Model) -> int: ...

    def lanes(self, model: Model, n: int) -> AbstractContextManager[Lanes]:
        """At least ``n`` of them, for nobody else meanwhile; they may have been used before."""
        ...


@dataclass(frozen=True, slots=True)
class LaneCoder:
    """Satisfies :class:`~pgolf_codec.codec.frame_coder.FrameCoder`."""

    device: Device
    group_bytes: int = 1 << 28

    def encode(
        self,
        raws: Sequence[bytes],
        model: Model,
        *,
        streams: int | None,
        threads: int,
        progress: Progress | None,
    ) -> list[EncodedFrame]:
        if isinstance(model, AdaptedModel):
            raise DeviceError("only the processor adapts (device cpu, or --no-adapt)")
        estimates = _each(frames.zstd_bytes, raws, threads)
        hopeful = self._hopeful(raws, estimates, model, threads)
        ids = _each(model.tokenizer.encode, [raws[i] for i in hopeful], threads)
        cuts = [
            payload.cut(run, streams or default_streams(len(raws[i]), model))
            for i, run in zip(hopeful, ids, strict=True)
        ]
        runs = [run for cut in cuts for run in cut]
        tick = _tick(progress, sum(map(len, raws)), sum(run.size for run in runs))
        coded = iter(self._encode(runs, model, tick))
        made = {
            i: _model_payload(cut, [next(coded) for _ in cut])
            for i, cut in zip(hopeful, cuts, strict=True)
        }

        def finish(i: int) -> EncodedFrame:
            if i in made:
                return frames.smallest(raws[i], estimates[i], made[i])
            return frames.encode_without_model(raws[i])

        return _each(finish, range(len(raws)), threads)

    def decode(
        self, coded: Sequence[CodedFrame], *, threads: int, progress: Progress | None
    ) -> list[bytes | FormatError]:
        # Adapted frames are for the processor: the stage is not a device's.
        by_model: dict[int, tuple[Model, list[int]]] = {}
        found: dict[int, bytes | FormatError] = {}
        for i, frame in enumerate(coded):
            if frame.header.method is Method.MODEL:
                model = frame.get_model()
                by_model.setdefault(id(model), (model, []))[1].append(i)
            else:
                (found[i],) = ONE_BY_ONE.decode([frame], threads=threads, progress=None)
        for model, members in by_model.values():
            raws = self._decode([coded[i] for i in members], model, progress)
            found |= zip(members, raws, strict=True)
        return [found[i] for i in range(len(coded))]

    def _hopeful(
        self, raws: Sequence[bytes], estimates: list[float], model: Model, threads: int
    ) -> list[int]:
        """The frames that the model is worth trying on."""
        samples = [frames.sample(raw) for raw in raws]
        runs = _each(model.tokenizer.encode, [p for sample in samples for p in sample], threads)
        bits = iter([bits for _, bits in self._encode(runs, model, lambda _: None)])

        def is_hopeful(i: int) -> bool:
            if not (sample := samples[i]):
                return True
            taken = [next(bits) for _ in sample]
            return not frames.is_hopeless(sample, taken, raws[i], estimates[i], model)

        return [i for i in range(len(raws)) if is_hopeful(i)]

    def _encode(
        self, runs: list[NDArray[np.int32]], model: Model, tick: Tick
    ) -> list[tuple[bytes, float]]:
        """(coded bytes, entropy in bits) of each run."""
        if not runs:
            return []
        schedule = Schedule.of([run.size for run in runs], self.device.max_lanes(model))
        with self.device.lanes(model, schedule.n_lanes) as on:
            return lanes.encode(runs, on, schedule, tick)

    def _decode(
        self, coded: list[CodedFrame], model: Model, progress: Progress | None
    ) -> list[bytes | FormatError]:
        """Frames that this model coded."""
        split = [or_error(_streams, frame) for frame in coded]
        streams = [s for one in split if not isinstance(one, FormatError) for s in one]
        runs: Iterator[NDArray[np.int32] | None] = iter(())
        if streams:
            sizes = [stream.n_symbols for stream in streams]
            tick = _tick(progress, sum(f.header.raw_bytes for f in coded), sum(sizes))
            schedule = Schedule.of(sizes, self.device.max_lanes(model))
            with self.device.lanes(model, schedule.n_lanes) as on:
                runs = iter(lanes.decode(streams, on, schedule, tick))
        return [
            one
            if isinstance(one, FormatError)
            else or_error(_raw, frame, [next(runs) for _ in one], model)
            for frame, one in zip(coded, split, strict=True)
        ]


def _model_payload(cut: list[NDArray[np.int32]], coded: list[tuple[bytes, float]]) -> ModelPayload:
    n_tokens = sum(run.size for run in cut)
    streams = [stream for stream, _ in coded]
    return ModelPayload(
        payload.join(n_tokens, streams),
        n_tokens,
        sum(bits for _, bits in coded),
        8 * sum(map(len, streams)),
    )


def _streams(frame: CodedFrame) -> list[CodedStream]:
    frames.check_payload(frame.header, frame.index, frame.payload)
    return payload.split(frame.payload, frame.header.raw_bytes)


def _raw(frame: CodedFrame, runs: list[NDArray[np.int32] | None], model: Model) -> bytes:
    """The bytes of a frame's tokens, checked; a run that is damaged is None."""
    sound = [run for run in runs if run is not None]
    if len(sound) < len(runs):
        raise CorruptError("a stream of coded tokens is damaged")
    ids = np.concatenate(sound)
    if model.tokenizer.n_bytes(ids) != frame.header.raw_bytes:
        raise CorruptError("the tokens are not those of the claimed size")
    raw = model.tokenizer.decode(ids)
    frames.check_raw(frame.header, raw)
    return raw


def _each(function: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """``function`` of each item, on so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def _tick(progress: Progress | None, n_bytes: int, n_symbols: int) -> Tick:
    """From symbols of lanes, also idle ones, to bytes of a group."""
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(min(n_bytes, n_bytes * done // n_symbols))

    return tick
