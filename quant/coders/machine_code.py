"""What the machine code of coders is made from; that of models has a list of its own.

And numbers that kernels share with what calls them, which does not import numba.
"""

SOURCES = (
    "codec/jit.py",
    "codec/machine.py",
    "quant/coders/cm_kernel.py",
    "quant/coders/cm_state.py",
    "quant/coders/linear.py",
)
STATIC_SOURCES = (
    "codec/jit.py",
    "codec/machine.py",
    "quant/coders/ans_kernel.py",
    "quant/coders/arithmetic.py",
    "quant/coders/bits_kernel.py",
    "quant/coders/machine_code.py",
    "quant/coders/numbers_kernel.py",
    "quant/coders/prediction_kernel.py",
)
"""Of ``raw``, ``huffman`` and ``ans-*``."""

OVERRUN = 4
"""Zero bytes that a decoder of bits may read behind the end."""
MAX_BITS = 40
"""Of a number."""
MAX_LENGTH = 16
"""Of a Huffman code."""
PRECISION, BUCKET_BITS = 20, 10
"""ANS: frequencies of a table add up to 2**PRECISION; a bucket is a 2**-BUCKET_BITS of it."""
ESCAPED = -(2**31)
"""In the place of an item that is not in the stream."""
MOST_SEEN = 127
"""Where others are predicted from it, an item beyond that counts as 0."""
TOGETHER = 4
"""Columns that are added to a guess in one pass."""
