"""Which device to run on, what to do when its memory is full, and how to share a processor's cores."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Barrier
from typing import Literal, TypeVar

import torch

from dreamsplat.errors import DeviceUnavailable

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that a name asks for; "auto" takes a CUDA device if there is one.

    Raises:
        DeviceUnavailable: for "cuda" where torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "device: 'cuda' was asked for, but torch finds no CUDA device. Use --device cpu or auto."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class Batch:
    """How many samples a step takes: all that were asked for or, once the device's memory was full, half of them."""

    def __init__(self, count: int) -> None:
        """Begin with `count` samples."""
        self.count = count
        self._halved = False

    def state(self) -> torch.Tensor:
        """[2] the count, and whether it was halved."""
        return torch.tensor([self.count, int(self._halved)])

    def restore(self, state: torch.Tensor) -> None:
        """Go on from a `state`."""
        self.count, self._halved = int(state[0]), bool(state[1])

    def run(self, step: Callable[[int], _Result]) -> _Result:
        """What `step(count)` returns; if memory runs out, for the first time, of half the count, rounded up.

        Raises:
            DeviceUnavailable: if that does not fit either.
        """
        try:
            return step(self.count)
        except torch.OutOfMemoryError:
            if self._halved or self.count == 1:
                raise DeviceUnavailable(
                    f"memory: the device cannot hold {self.count} views per step. Use --vram 8, a smaller "
                    "--render-size, or --device cpu."
                ) from None
        # Outside the handler, where the exception no longer holds the tensors of the step.
        self._halved, before = True, self.count
        self.count = (before + 1) // 2
        torch.cuda.empty_cache()
        _log.warning("The device's memory is full with %d views per step: going on with %d.", before, self.count)
        return self.run(step)


@functools.cache
def one_core_threads(count: int) -> Executor:
    """`count` threads, in each of which torch computes on one core.

    In a small network torch's own threads meet at the end of every layer and wait for the slowest. Samples that are
    computed in threads of their own meet once.
    """
    process_threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(count, "one-core", initializer=_use_one_core)
    barrier = Barrier(count)  # makes all of them start now
    list(executor.map(lambda _: barrier.wait(), range(count)))
    torch.set_num_threads(process_threads)
    return executor


def _use_one_core() -> None:
    """For this thread; but torch takes the number of the process when a thread first asks, so let it ask now."""
    torch.set_num_threads(1)
    torch.get_num_threads()


if hasattr(os, "register_at_fork"):  # a forked child has no threads
    os.register_at_fork(after_in_child=one_core_threads.cache_clear)
