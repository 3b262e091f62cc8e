"""The same integers with torch and Triton (docs/GPU.md)."""
