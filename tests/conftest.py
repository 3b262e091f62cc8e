"""Profiles of hypothesis, and a stand-in for the package's models."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "dev", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci",
    max_examples=100,
    deadline=None,
    derandomize=True,
    # Neither shrunk nor explained: a failure that takes minutes of that hides behind a timeout.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", parent=settings.get_profile("dev"), max_examples=3000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

STAND_IN = Path(__file__).with_name("stand_in_models.py")


@pytest.fixture
def stand_in_models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One small model instead of those that the package has, here and where ``verify`` decodes."""
    import pgolf_codec
    from pgolf_codec.eval import decoder

    spec = importlib.util.spec_from_file_location("_stand_in_models", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pgolf_codec.models", ModuleType("pgolf_codec.models"))
    monkeypatch.setattr(pgolf_codec, "models", None, raising=False)
    module.install()
    monkeypatch.setattr(decoder, "BOOT", module.BOOT + decoder.BOOT)
    return module
