"""``TRITON_INTERPRET=1 interpreted.py MODEL STEPS``: says whether fused lanes are equal.

MODEL is ``tiny``, ``hot``, or a part of :data:`tiny_model.PARTS`, of which the model is hot, too.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))

import torch
from environments import digest
from tiny_model import PARTS, hot_weights, prose_ids, tiny_config, tiny_tokenizer, tiny_weights

from pgolf_codec.lm.gpu import torch_lanes, triton_ops
from pgolf_codec.lm.gpu.torch_engine import TorchEngine
from pgolf_codec.lm.integers.engine import Engine


def main(name: str, n_steps: int) -> None:
    torch.set_num_threads(1)
    torch_lanes.LANES = 1  # that many streams are for CUDA's matrix products
    triton_ops.SLOTS = 4  # several turns within these few steps
    tokenizer = tiny_tokenizer()
    config = dataclasses.replace(tiny_config(tokenizer.n_symbols), **PARTS.get(name, {}))
    weights = tiny_weights(tokenizer) if name == "tiny" else hot_weights(config, 3)
    fused = TorchEngine(weights, bytes(32), torch.device("cpu"), fused=True)
    ids = prose_ids(tokenizer, 1, n_steps)
    found, expected = (
        digest(*engine.session(1).intervals(ids)) for engine in (fused, Engine(weights, bytes(32)))
    )
    print("equal" if found == expected else "not equal")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
