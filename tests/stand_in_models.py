"""A stand-in for :mod:`pgolf_codec.models` with one adaptive order-1 model.

``python stand_in_models.py VERB ...`` is the command line with it; :func:`install` is for
this process.  An "artifact" is the seed of the model's fingerprint, any bytes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

NAME, SEED = "order-1", b"order-1"

BOOT = f"""\
import runpy, sys
sys.path.append(sys.argv[1])
import pgolf_codec
runpy.run_path({__file__!r})["install"]()
"""
"""Put before that of ``eval.decoder``: installs the stand-in in the other process."""


def install() -> ModuleType:
    """Put the stand-in where the package looks for its models; returns it."""
    import pgolf_codec

    models = ModuleType("pgolf_codec.models")
    vars(models).update(
        load_model=load_model, find_by_fingerprint=find_by_fingerprint, list_models=list_models
    )
    sys.modules["pgolf_codec.models"] = models
    pgolf_codec.models = models  # type: ignore[attr-defined]
    return models


def load_model(model: str | os.PathLike[str] | None = None) -> Any:
    from pgolf_codec.errors import ModelNotFoundError

    if model in (None, NAME):
        return _fake(NAME, SEED)
    try:
        return _fake(os.path.basename(model), Path(model).read_bytes())
    except FileNotFoundError:
        raise ModelNotFoundError(f"{model}: no model of this name, and no file") from None


def find_by_fingerprint(prefix: bytes) -> Any:
    from pgolf_codec.errors import WrongModelError

    model = load_model()
    if not model.predictor.fingerprint.startswith(prefix):
        raise WrongModelError(f"no model with the fingerprint {prefix.hex()}...")
    return model


def list_models() -> list[Any]:
    fingerprint = load_model().predictor.fingerprint
    return [
        SimpleNamespace(
            name=NAME, n_bytes=len(SEED), n_parameters=0, bpb=None, fingerprint=fingerprint
        )
    ]


def _fake(name: str, seed: bytes) -> Any:
    """The codec tests' own model, and the artifact that it came from."""
    module = sys.modules.get("_codec_fake")
    if module is None:
        path = Path(__file__).parent / "codec" / "fake.py"
        spec = importlib.util.spec_from_file_location("_codec_fake", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["_codec_fake"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    base: Any = module.FakeModel
    kind = dataclasses.make_dataclass(
        "FakeArtifactModel", [], bases=(base,), frozen=True, namespace={"blob": seed}
    )
    return kind(name=name, seed=seed, n_bytes=len(seed))


if __name__ == "__main__":
    install()
    from pgolf_codec.cli import main

    sys.exit(main())
