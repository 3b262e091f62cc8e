"""A hub on loopback for tests of downloads."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for hub_stand_in.py
