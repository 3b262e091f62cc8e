"""What the machine code of coders is made from; that of models has a list of its own."""

SOURCES = (
    "codec/jit.py",
    "codec/machine.py",
    "quant/coders/cm_kernel.py",
    "quant/coders/cm_state.py",
    "quant/coders/linear.py",
)
