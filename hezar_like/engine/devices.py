"""Where models run."""

from __future__ import annotations

import platform
from typing import cast, get_args

import torch

from ..errors import OptionError
from .kinds import Quantization, is_known_to_onednn

__all__ = ["fastest_dtype", "multiplies", "usable_device", "usable_quantization"]


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The fastest type of weights there: bfloat16 where the hardware multiplies matrices of it, else float32."""
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32
    fast = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def multiplies(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device multiplies matrices of a type in less time than those of float32."""
    if device.type != "cpu" or dtype == torch.float32:
        return True
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return is_known_to_onednn(dtype)
    if torch.cpu._is_amx_tile_supported():  # such processors have AVX-512 for float16
        return True
    return dtype == torch.bfloat16 and bool(torch.cpu._is_avx512_bf16_supported())


def usable_device(device: str | torch.device | None = None) -> torch.device:
    """A device that works here.

    Args:
        device: As torch names it; None for the accelerator if there is one, else the CPU.

    Raises:
        OptionError: When torch does not know it, or it is not here.
    """
    if device is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # torch raises each of them for some device
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise OptionError(f"the device {device!r} cannot be used here: {reason}. Use 'cpu', or leave it out.") from None


def usable_quantization(quantize: object, device: torch.device, writes: bool) -> Quantization | None:
    """A way to round weights that works there.

    Args:
        quantize: "int8", "int4", or None.
        device: Where the model is.
        writes: Whether it writes tokens one by one: what only reads is slower and less exact with it than in bfloat16.

    Raises:
        OptionError: When there is no such way, or it does not work there or would be of no use.
    """
    if quantize is None:
        return None
    if quantize not in get_args(Quantization) or device.type != "cpu":
        raise OptionError(f"quantize is {quantize!r} on {device}; it must be 'int8' or 'int4', with device='cpu'.")
    if not writes:
        raise OptionError(
            f"quantize={quantize!r} is for models that write. For this one dtype='bfloat16' is faster and more exact."
        )
    return cast(Quantization, quantize)
