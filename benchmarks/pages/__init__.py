"""The tables of the documents, drawn from stored results; ``benchmarks/tables.py`` places them."""
