"""Training in several processes, one per core: on CPUs faster than several threads in one, which wait for each other."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def share_weights(model: nn.Module) -> None:
    """Give all processes the weights of process 0."""
    if dist.is_initialized():
        for parameter in model.parameters():
            dist.broadcast(parameter.data, src=0)


def average_gradients(model: nn.Module, stop: bool) -> bool:
    """Give all processes that train together the mean of their gradients, sent in bfloat16.

    Returns:
        Whether any of them wants to stop, so that all stop at the same step.
    """
    if process_count() == 1:
        return stop
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flag = gradients[0].new_tensor([float(stop)])
    flat = torch.cat([flag, *(g.reshape(-1) for g in gradients)]).to(torch.bfloat16)
    dist.all_reduce(flat)
    stops, *means = (flat.float() / process_count()).split([1, *(g.numel() for g in gradients)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.reshape(gradient.shape))
    return bool(stops > 0)


def run_in_processes(count: int, function: Callable[[Any], None], argument: Any) -> None:
    """Call `function(argument)` in `count` processes that share gradients, each on a core of its own."""
    if count == 1:
        return function(argument)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_worker, (count, Path(folder) / "meet", function, argument), nprocs=count)


def _worker(rank: int, count: int, meeting_point: Path, function: Callable[[Any], None], argument: Any) -> None:
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # Nothing listens beyond this machine.
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=count)
    try:
        function(argument)
    finally:
        dist.destroy_process_group()
