"""Training in several processes, one per core: faster on CPUs than threads, which wait for each other."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process; number 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Return once every process has called this."""
    if dist.is_initialized():
        dist.barrier()


def share_weights(model: nn.Module) -> None:
    """Give all processes the weights of process 0."""
    if dist.is_initialized():
        for parameter in model.parameters():
            dist.broadcast(parameter.data, src=0)


@torch.no_grad()
def average_weights(model: nn.Module, stop: bool) -> bool:
    """Give all processes that train together the mean of their weights.

    Averaging weights every few steps ("local SGD", Stich 2019), not gradients in every step, lets each process take
    many small steps without waiting for the others.

    Returns:
        Whether any of them wants to stop, so that all stop at the same step.
    """
    if process_count() == 1:
        return stop
    weights = [p.detach() for p in model.parameters()]
    flag = weights[0].new_tensor([float(stop)])
    flat = torch.cat([flag, *(w.reshape(-1) for w in weights)])
    dist.all_reduce(flat)
    stops, *means = (flat / process_count()).split([1, *(w.numel() for w in weights)])
    for weight, mean in zip(weights, means, strict=True):
        weight.copy_(mean.reshape(weight.shape))
    return bool(stops > 0)


def run_in_processes(count: int, function: Callable[[Any], None], argument: Any) -> None:
    """Call `function(argument)` in `count` processes that can share weights, each on a core of its own."""
    if count == 1:
        return function(argument)
    with tempfile.TemporaryDirectory() as folder:
        spawn(_worker, (count, Path(folder) / "rendezvous", function, argument), nprocs=count)


def _worker(rank: int, count: int, rendezvous: Path, function: Callable[[Any], None], argument: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s")
    torch.set_num_threads(1)
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # Nothing listens beyond this machine.
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=count)
    try:
        function(argument)
    finally:
        dist.destroy_process_group()


def _end_with_parent() -> None:
    """Leave no process behind, however the parent ends. The SIGINT that torch has orphans sent may be ignored."""
    parent = parent_process()
    assert parent is not None, "workers are spawned"
    parent.join()
    os._exit(1)
