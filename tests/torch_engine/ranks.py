"""``torchrun ranks.py FOLDER OPTION ... PATH``: compress-all on torch, then verify-all."""

from __future__ import annotations

import sys

import torch

from pgolf_codec.cli import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, options = sys.argv[1], sys.argv[2:]
    status = main(["compress-all", "-q", "--device", "torch-cpu", "-o", folder, *options])
    sys.exit(status or main(["verify-all", "--json", *options]))
