"""The GPU beside the processor: the same files, and how fast.

    python benchmarks/gpu.py [--text FILE] [--megabytes 64]     writes benchmarks/results/gpu.json
    python benchmarks/gpu.py --device torch-cpu --reduced       the same on any machine, in minutes

For the embedded model and one of record size (``record_size.py``):

1. *Equality*: a text is compressed by numba on the processor and by torch on the device;
   the hashes of both archives are told, and each is decoded by the other.
2. *Steps*: symbols a second of lanes in lock step, for several numbers of lanes.
3. *Archives*: whole files, from bytes to bytes, MB/s both ways.

Without ``--text`` the texts beside the checkout are taken, one behind the other, and without
these the help topics of Python; a text that is too short is repeated, which costs the
model nothing and saves it nothing, as no stream sees another one's text.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import record_size
import torch

from pgolf_codec import models as embedded
from pgolf_codec.cli import demo
from pgolf_codec.codec import stream
from pgolf_codec.codec.frame_coder import ONE_BY_ONE
from pgolf_codec.devices import frame_coder
from pgolf_codec.errors import DeviceError
from pgolf_codec.lm.gpu.torch_device import TorchDevice, lane_bytes
from pgolf_codec.lm.gpu.torch_engine import TorchEngine, open_device
from pgolf_codec.lm.gpu.torch_ops import int8_products_hold
from pgolf_codec.quant.artifact import LoadedModel

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    try:
        device = open_device(options.device)
    except DeviceError as error:
        sys.exit(f"gpu.py: {error}")
    text = text_of(options)
    results: dict[str, Any] = {"machine": machine(device, options.reduced), "models": []}
    for model in models():
        config = model.artifact.weights.config
        fused = TorchEngine.fuses(device)
        results["models"].append(
            {
                "name": model.name,
                "fingerprint": model.fingerprint.hex(),
                "n_parameters": model.n_parameters,
                "fused": fused,
                "lane_bytes": lane_bytes(config, fused),
                "equality": equality(model, text[: options.equal_bytes], options),
                "steps": steps(model, device, options),
                "steps_unfused": steps(model, device, options, fused=False) if fused else None,
                "archives": archives(model, text, options),
            }
        )
        gc.collect()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--reduced", action="store_true", help="as little as shows that it works")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--megabytes", type=float, default=64.0, help="of text for the archives")
    options = parser.parse_args(arguments)
    if options.text is not None and not options.text.is_file():
        parser.error(f"{options.text} is not a file")
    options.equal_bytes = 1500 if options.reduced else 200_000
    options.archive_bytes = 0 if options.reduced else int(options.megabytes * 1e6)
    options.streams = 64 if options.reduced else None
    options.lanes = (16, 64) if options.reduced else (256, 1024, 2048, 4096)
    options.n_steps = 4 if options.reduced else 64
    return options


def models() -> list[LoadedModel]:
    return [embedded.load_model(), record_size.record_size_model()]


def text_of(options: argparse.Namespace) -> bytes:
    """At least as long as is needed."""
    folder = ROOT.parent / "shared" / "corpora" / "val"
    paths = [options.text] if options.text else sorted(folder.glob("fineweb*.txt"))
    text = b"".join(path.read_bytes() for path in paths) or demo.python_topics(1 << 20)
    n_bytes = max(options.equal_bytes, options.archive_bytes)
    return text if options.text else text * (n_bytes // len(text) + 1)


def machine(device: torch.device, reduced: bool) -> dict[str, Any]:
    """What the speeds depend on."""
    cuda = device.type == "cuda"
    return {
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if cuda else "torch-cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "int8_products": int8_products_hold(device),
        "reduced": reduced,
    }


def equality(model: LoadedModel, text: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Both archives' hashes, and whether each way back gives the text."""
    coders = {"cpu": ONE_BY_ONE, "device": frame_coder(options.device)}
    blobs = {
        name: stream.compress(text, model=model, streams=options.streams, coder=coder)
        for name, coder in coders.items()
    }
    back = {
        "cpu_reads_device": (blobs["device"], coders["cpu"]),
        "device_reads_cpu": (blobs["cpu"], coders["device"]),
    }
    hashes = {f"{name}_sha256": hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    found = {
        name: stream.decompress(blob, model=model, coder=coder) == text
        for name, (blob, coder) in back.items()
    }
    equal = blobs["cpu"] == blobs["device"] and all(found.values())
    report: dict[str, Any] = {
        "raw_bytes": len(text),
        "file_bytes": len(blobs["cpu"]),
        "equal": equal,
    }
    report |= hashes | found
    print(model.name, report, file=sys.stderr)
    if not equal:
        raise SystemExit(f"{model.name}: the device does not write what the processor writes")
    return report


def steps(
    model: LoadedModel,
    device: torch.device,
    options: argparse.Namespace,
    fused: bool | None = None,
) -> list[dict[str, Any]]:
    """Symbols a second of both directions; medians of three."""
    frame_coder.cache_clear()  # the lanes of what was coded before
    engine = TorchEngine(model.artifact.weights, model.fingerprint, device, fused=fused)
    most = TorchDevice(device).max_lanes(model)
    rows = []
    for n in [n for n in options.lanes if n <= most]:
        lanes = engine.lanes(n)
        rng = np.random.default_rng(1)
        ids = rng.integers(2, engine.n_symbols, (options.n_steps, n)).astype(np.int32)
        points = rng.integers(0, 1 << 24, (options.n_steps, n))

        def encode(lanes: Any = lanes, ids: Any = ids) -> None:
            lanes.encode(ids)

        def decode(lanes: Any = lanes, points: Any = points) -> None:
            for row in points:
                lanes.decode(row)

        row: dict[str, Any] = {"lanes": n, "steps": options.n_steps}
        for name, run in (("encode", encode), ("decode", decode)):
            run()  # captures the graph
            seconds = []
            for _ in range(3):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            row[f"{name}_symbols_s"] = n * options.n_steps / statistics.median(seconds)
        if device.type == "cuda":
            row["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(device)
        rows.append(row)
        print(model.name, row, file=sys.stderr)
        del lanes, encode, decode
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
    return rows


def archives(model: LoadedModel, text: bytes, options: argparse.Namespace) -> dict[str, Any] | None:
    """One whole file there and back; None where there is no time for it."""
    if not options.archive_bytes:
        return None
    text, coder = text[: options.archive_bytes], frame_coder(options.device)
    start = time.perf_counter()
    blob = stream.compress(text, model=model, coder=coder)
    middle = time.perf_counter()
    if stream.decompress(blob, model=model, coder=coder) != text:
        raise SystemExit(f"{model.name}: decoded to something else")
    end = time.perf_counter()
    row = {
        "raw_bytes": len(text),
        "file_bytes": len(blob),
        "bpb": 8 * len(blob) / len(text),
        "compress_mb_s": len(text) / 1e6 / (middle - start),
        "decompress_mb_s": len(text) / 1e6 / (end - middle),
    }
    print(model.name, row, file=sys.stderr)
    return row


if __name__ == "__main__":
    main(sys.argv[1:])
