"""From a checkpoint's floats to an artifact's integers, and back."""
