"""Where the challenge's data sets are published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a variant of the data is published."""

    repository: str
    dataset: str
    prefix: str = "datasets"
    """Folder of ``manifest.json`` in the repository."""


VARIANTS = {
    "sp1024": HubSource("willdepueoai/parameter-golf", "fineweb10B_sp1024"),
    "sp4096": HubSource("kevclark/parameter-golf", "fineweb10B_sp4096"),
    "sp8192": HubSource("kevclark/parameter-golf", "fineweb10B_sp8192"),
}
"""By the names of the option ``--variant``: "sp" and the number of symbols."""
