"""Where frames are coded: this processor, or a GPU.

Names of devices: ``cpu`` (the default: integer kernels of numba), ``cuda``, ``cuda:1``
and ``torch-cpu``, the GPU's code on the processor, to compare with.  The bytes of an
archive are the same on all of them, but that only the processor adapts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pgolf_codec.errors import DeviceError, MissingPackageError

if TYPE_CHECKING:
    from pgolf_codec.codec.frame_coder import FrameCoder
    from pgolf_codec.codec.model import Model

CPU = "cpu"
CPU_GROUP_BYTES = 1 << 24
"""Raw bytes that ``torch-cpu`` codes side by side."""


def adapting(model: Model, device: str | None, adapt: bool | None) -> Model:
    """The model to write with: one that learns from the text, if ``adapt``.

    None is yes on the processor, and no on other devices, which can't: raises
    :class:`DeviceError` if they are asked to.
    """
    from pgolf_codec.codec.adaptation import adapted

    here = device in (None, CPU)
    if adapt and not here:
        raise DeviceError("only the processor adapts (device cpu, or --no-adapt)")
    return adapted(model) if here and adapt is not False else model


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
        from pgolf_codec.lm.gpu.torch_device import TorchDevice
        from pgolf_codec.lm.gpu.torch_engine import open_device
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
