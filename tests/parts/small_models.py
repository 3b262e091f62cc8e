"""Small models with one part, or with several, whose parameters are all at work."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from pgolf_codec.lm.floats.model import Transformer, kind_of
from pgolf_codec.lm.model_config import ModelConfig

LENGTH = 24

PLAIN = ModelConfig(
    vocab_size=40,
    n_layers=4,
    d_model=32,
    n_heads=4,
    n_kv_heads=2,
    d_head=8,
    d_hidden=48,
    windows=(8, 24, 5, 100),
    rope_dims=4,
    bigram_buckets=16,
    bigram_dim=6,
)

PARTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu2": {"activation": "relu2"},
    "untied": {"tied": False},
    "factored embedding": {"embedding_rank": 12},
    "factored, untied": {"embedding_rank": 12, "tied": False},
    "no smear": {"smear": "none"},
    "smear gate": {"smear": "gate"},
    "divided norms": {"norm_scale": True},
    "U-Net": {"unet": True},
    "U-Net of odd depth": {"unet": True, "n_layers": 3, "windows": (8, 8, 8)},
    "recurrence": {"passes": (0, 1, 2, 1, 2, 3)},
    "universal": {"n_layers": 2, "windows": (8, 100), "passes": (0, 1, 0, 1, 0, 1)},
    "U-Net, recurrence": {"unet": True, "passes": (0, 1, 2, 1, 2, 3, 3)},
    "parallel": {"parallel_layers": (1, 3)},
    "value embeddings": {"value_layers": (1, 3), "value_dim": 6},
    "XSA": {"xsa_layers": (2, 3)},
    "attention gate": {"attention_gate": True},
    "low rank": {"attention_rank": 6, "mlp_rank": 10},
    "ternary": {"weights": "ternary"},
    "binary": {"weights": "binary"},
    "document mask": {"document_mask": True},
    "MTP": {"mtp_heads": 2},
    "several": {
        "activation": "relu2",
        "embedding_rank": 12,
        "smear": "gate",
        "norm_scale": True,
        "unet": True,
        "passes": (0, 1, 2, 1, 2, 3),
        "parallel_layers": (2,),
        "value_layers": (2, 3),
        "value_dim": 6,
        "xsa_layers": (3,),
        "attention_gate": True,
        "weights": "ternary",
        "document_mask": True,
        "mtp_heads": 1,
    },
}


FLOAT_ONLY: dict[str, dict[str, Any]] = {
    "no QK-norm": {"qk_norm": False},
    "ternary by groups": {"weights": "ternary", "weight_group": 16},
}
"""What an export refuses."""


def config_of(name: str, **changes: Any) -> ModelConfig:
    return dataclasses.replace(PLAIN, **(PARTS | FLOAT_ONLY)[name] | changes)


def random_model(config: ModelConfig, seed: int = 1) -> Transformer:
    """No parameter is where it has no effect."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config, LENGTH)
    with torch.no_grad():
        for name, p in model.named_parameters():
            last = name.split(".")[-1]
            centre = {"gain": 1.5, "scale": 1.0, "skips": 0.7, "value_scale": 0.6}.get(last, 0.0)
            spread = p.shape[-1] ** -0.5 if kind_of(name) == "matrices" else 0.4
            p.copy_(centre + spread * torch.randn(p.shape, generator=generator))
            if last == "mix":
                p[0] += 1
    return model.eval()


def random_ids(seed: int = 2, rows: int = 2, length: int = LENGTH) -> torch.Tensor:
    """Rows behind BOS, with a second document in the first row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, PLAIN.vocab_size, (rows, length), generator=generator)
    ids[:, 0] = 1
    ids[0, length // 2] = 1
    return ids


def log_probabilities(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(ids)).double().log_softmax(-1)
