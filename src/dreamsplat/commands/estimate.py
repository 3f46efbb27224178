"""How long a run may take here, and whether it fits: said before a long one starts, and before anything is fetched."""

from __future__ import annotations

import sys
import time

import torch

from dreamsplat.config import DreamConfig
from dreamsplat.errors import DeviceUnavailable
from dreamsplat.method.devices import cuda_is_idle, resolve_device

LONG_HOURS = 1.0
"""A run on a processor that would take longer must be asked for."""
_EFFICIENCY = 0.35
"""Share of the speed of large products that networks reach."""
_VRAM_CHOICES = (8, 12, 16)


def announce(config: DreamConfig, yes_slow: bool) -> None:
    """Print what a run with other people's models will take.

    Raises:
        DeviceUnavailable: if it would take hours on a processor and that was not asked for, or does not fit the GPU.
    """
    cost = config.prior2d.cost(config)
    if cost is None:
        return
    device = resolve_device(config.device)
    hours = cost.flops / (_EFFICIENCY * _flops_per_second(device)) / 3600
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
    print(f"estimate: {_in_words(hours)} on {where}, and about {cost.gigabytes:.0f} GB of memory", file=sys.stderr)
    if yes_slow:
        return
    if device.type == "cpu" and hours > LONG_HOURS:
        way_out = cuda_is_idle() or "Use a GPU, or start it all the same with --yes-slow."
        raise DeviceUnavailable(f"the run would take {_in_words(hours)} on this processor.", advice=way_out)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 1e9
        if cost.gigabytes > total:
            fitting = [gigabytes for gigabytes in _VRAM_CHOICES if gigabytes <= total]
            advice = f"Add --vram {fitting[-1]}." if fitting else "It needs a larger GPU."
            raise DeviceUnavailable(
                f"the run needs about {cost.gigabytes:.0f} GB, and {where} has {total:.0f}.",
                advice=f"{advice} --yes-slow starts it all the same.",
            )


def _flops_per_second(device: torch.device) -> float:
    """The speed of large matrix products."""
    size = 4096 if device.type == "cuda" else 1024
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _in_words(hours: float) -> str:
    """About how long."""
    if hours < 1 / 30:
        return "under two minutes"
    if hours < 1.5:
        return f"about {60 * hours:.0f} minutes"
    return f"about {hours:.0f} hours" if hours < 48 else f"about {hours / 24:.0f} days"
