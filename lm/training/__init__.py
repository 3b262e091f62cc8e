"""What the training loop (lm/train.py) is made of."""
