"""What changes from step to step of a run: saved in a snapshot, restored, and rolled back when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from dreamsplat.errors import DeviceUnavailable

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig
    from dreamsplat.guidance import LossState
    from dreamsplat.representations import AbstractRepresentation
    from dreamsplat.types import AbstractAsset

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Optimisation:
    """The state of a run between two steps. A snapshot holds all of it, so a run continues from one bit for bit."""

    representation: AbstractRepresentation
    """What is optimised; set by the lift or by `restore`."""
    learned: LossState
    """What the loss learns during the run."""
    generator: torch.Generator
    """The source of everything random."""
    step: int
    """Optimisation steps done."""
    views: int
    """Cameras per step: as many as the config asks for, or half of them once memory ran out."""
    newest: dict[str, Tensor]
    """The newest snapshot, taken or restored."""

    def __init__(self, config: DreamConfig, device: torch.device, learned: LossState) -> None:
        self.config, self.device, self.learned = config, device, learned
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step, self.views = 0, config.views

    def snapshot(self) -> dict[str, Tensor]:
        """Everything needed to continue from here. Later steps do not change these tensors."""
        groups = {
            "representation": self.representation.state_tensors(),
            "learned": {} if self.learned is None else self.learned.state_tensors(),
        }
        named = {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        counts = {"step": torch.tensor(self.step), "views": torch.tensor(self.views)}
        self.newest = named | counts | {"generator": self.generator.get_state()}
        return self.newest

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Return to a snapshot of the same run, from any device."""
        self.newest = snapshot
        # Scalars are counters, which belong on the CPU.
        here = {name: tensor.to(self.device) if tensor.dim() else tensor.cpu() for name, tensor in snapshot.items()}
        self.representation = self.config.representation.restore(group_of(here, "representation"))
        learned = group_of(here, "learned")
        if self.learned is not None and learned:  # A branch may have a loss that learns where its origin had none.
            self.learned.load_state_tensors(learned)
        self.step, self.views = int(snapshot["step"]), int(snapshot["views"])
        self.generator.set_state(snapshot["generator"].cpu())

    def within_memory(self, take_step: Callable[[], _Result]) -> _Result:
        """What `take_step()` returns; if memory runs out, it is repeated from the newest snapshot with half the views.

        Raises:
            DeviceUnavailable: if that does not fit either, or the views were halved before.
        """
        try:
            return take_step()
        except torch.OutOfMemoryError:
            if self.views < self.config.views or self.views == 1:
                raise DeviceUnavailable(
                    f"memory: the device cannot hold {self.views} views per step.",
                    advice="Lower `views` or `render_size`, or set `device` to cpu.",
                ) from None
        # Outside the handler, where the exception no longer holds the tensors of the step.
        self.restore(self.newest)
        self.views = (self.views + 1) // 2
        torch.cuda.empty_cache()
        _log.warning(
            "The device's memory is full with %d views per step: continuing with %d.", self.config.views, self.views
        )
        return self.within_memory(take_step)


def group_of(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    """The tensors whose names begin with "group.", by the rest of their names."""
    prefix = f"{group}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def asset_in(snapshot: dict[str, Tensor], config: DreamConfig) -> AbstractAsset:
    """What a snapshot of a run shows."""
    return config.representation.restore(group_of(snapshot, "representation")).asset()
