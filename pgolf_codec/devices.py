"""Where frames are coded: this processor, or a GPU.

Names of devices: ``cpu`` (the default: integer kernels of numba), ``cuda``, ``cuda:1``
and ``torch-cpu``, the GPU's code on the processor, to compare with.  The bytes of an
archive are the same on all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pgolf_codec.errors import MissingPackageError

if TYPE_CHECKING:
    from pgolf_codec.codec.frame_coder import FrameCoder

CPU = "cpu"
CPU_GROUP_BYTES = 1 << 24
"""Raw bytes that ``torch-cpu`` codes side by side."""


@lru_cache(maxsize=4)
def frame_coder(device: str | None = None) -> FrameCoder:
    """What codes frames on the device of this name; None is the processor.

    A device keeps the last model that it was given.

    Raises :class:`DeviceError` if there is no such device, and
    :class:`MissingPackageError` without torch.
    """
    from pgolf_codec.codec.frame_coder import ONE_BY_ONE

    if device in (None, CPU):
        return ONE_BY_ONE
    try:
        from pgolf_codec.lm.torch_device import TorchDevice
        from pgolf_codec.lm.torch_engine import open_device
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingPackageError(
            f"device {device!r} needs torch: pip install 'pgolf-codec[gpu]'"
        ) from None
    from pgolf_codec.codec.lane_coder import LaneCoder

    opened = open_device(str(device))
    if opened.type == "cpu":
        return LaneCoder(TorchDevice(opened), CPU_GROUP_BYTES)
    return LaneCoder(TorchDevice(opened))
