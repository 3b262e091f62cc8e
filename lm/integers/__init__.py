"""The graph in exact integers (docs/NUMERICS.md): numba, any CPU."""
