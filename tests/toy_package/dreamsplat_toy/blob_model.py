"""Blobs while they are optimised."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsplat import Cameras, Diverged, InvalidInput, Rendering, render
from dreamsplat.representations import AbstractRepresentation
from dreamsplat_toy.blob_asset import BlobAsset
from dreamsplat_toy.blobs import Blobs


class BlobModel(AbstractRepresentation):
    """Centres and colours follow the sign of their gradients. Nothing changes in place, so nothing need be copied."""

    def __init__(
        self,
        spec: Blobs,
        centres: Tensor,  # [N, 3] world
        colours: Tensor,  # [N, 3] display
    ) -> None:
        """Take the parts as they are."""
        self.spec = spec
        self.centres, self.colours = centres.clone().requires_grad_(), colours.clone().requires_grad_()

    @classmethod
    def restored(cls, spec: Blobs, tensors: dict[str, Tensor]) -> BlobModel:
        """From `state_tensors`."""
        if tensors.keys() != {"centres", "colours"}:
            raise InvalidInput("the state is of another representation.", setting="representation")
        return cls(spec, tensors["centres"], tensors["colours"])

    def render(self, cameras: Cameras, background: Tensor, generator: torch.Generator) -> Rendering:
        """See `AbstractRepresentation.render`."""
        blobs = BlobAsset(self.centres, self.colours, self.spec.size)
        return render(blobs.gaussians(), cameras, background=background.to(self.centres.device))

    def update(self) -> None:
        """See `AbstractRepresentation.update`."""
        for name in ("centres", "colours"):
            tensor = getattr(self, name)
            moved = tensor.detach() - self.spec.rate * tensor.grad.sign()
            setattr(self, name, moved.requires_grad_())

    def check(self, step: int) -> None:
        """See `AbstractRepresentation.check`."""
        if not bool(self.centres.isfinite().all()):
            raise Diverged(f"step {step}: a centre is not finite.")

    def adapt(self, step: int, generator: torch.Generator) -> None:
        """Their number stays."""

    def asset(self) -> BlobAsset:
        """See `AbstractRepresentation.asset`."""
        return BlobAsset(self.centres, self.colours, self.spec.size).detach()

    def metrics(self) -> dict[str, float]:
        """How many there are."""
        return {"blobs": len(self.centres)}

    def state_tensors(self) -> dict[str, Tensor]:
        """See `AbstractRepresentation.state_tensors`."""
        return {"centres": self.centres.detach(), "colours": self.colours.detach()}
