"""Where models run."""

from __future__ import annotations

import torch

from ..errors import OptionError

__all__ = ["usable_device"]


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
