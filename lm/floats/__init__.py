"""The graph in torch, for training."""
