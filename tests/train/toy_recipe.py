"""The recipe of a model of some thousand parameters, whose steps take milliseconds."""

from __future__ import annotations

import tomllib

from pgolf_codec.lm.config import ModelConfig

RECIPE = """\
[model]
vocab_size = 320
n_layers = 2
d_model = 32
n_heads = 2
n_kv_heads = 1
d_head = 16
d_hidden = 64
windows = [8, 16]
rope_dims = 8
bigram_buckets = 64
bigram_dim = 64
[train]
seq_len = 64
batch_rows = 4
"""
"""More keys of ``[train]`` may follow."""

TINY = ModelConfig.from_dict(tomllib.loads(RECIPE)["model"])
