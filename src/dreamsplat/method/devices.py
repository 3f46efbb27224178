"""Which device to run on, what it is fast at, and how to share a processor's cores."""

import functools
import os
import shutil
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Barrier
from typing import Literal

import torch

from dreamsplat.errors import DeviceUnavailable

CUDA_WHEELS = "https://download.pytorch.org/whl/cu128"
"""Where PyTorch's builds for CUDA are."""


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that a name asks for; "auto" takes a CUDA device if there is one.

    Raises:
        DeviceUnavailable: for "cuda" where torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "'cuda' was requested, but torch finds no CUDA device.", setting="device",
            advice=cuda_is_idle() or "Use cpu or auto.",
        )  # fmt: skip
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def cuda_is_idle() -> str:
    """What to do where there is an NVIDIA GPU that torch cannot use; "" where there is none, or torch uses it."""
    has_driver = os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None
    if not has_driver or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return (
            "This machine has an NVIDIA GPU, and its torch was built without CUDA: run "
            f"pip install --force-reinstall torch --index-url {CUDA_WHEELS}."
        )
    return "This machine has an NVIDIA driver, and torch cannot use it: `nvidia-smi` and `dreamsplat doctor` say more."


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware, at twice the speed.

    A processor that does not emulates it, which costs 13 times the time of float32.
    """
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


@functools.cache
def one_core_threads(count: int) -> Executor:
    """`count` threads, in each of which torch computes on one core.

    In a small network torch's own threads meet at the end of every layer and wait for the slowest. Samples that are
    computed in separate threads meet only once.
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
