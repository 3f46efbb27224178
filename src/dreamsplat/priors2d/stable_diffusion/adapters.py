"""The second network of VSD: the UNet of Stable Diffusion with a LoRA that learns the current renderings.

Both networks are one UNet in memory; the LoRA is switched on only while this file uses it (ProlificDreamer, Wang et al.
2023, section 4.2; Hu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dreamsplat.errors import FileProblem
from dreamsplat.hub.optional import require
from dreamsplat.maths.noise import normal_like
from dreamsplat.priors2d.base import AbstractParticles
from dreamsplat.priors2d.stable_diffusion.network import LatentNetwork

ADAPTER = "particles"
"""The LoRA's name inside the UNet."""


class LoraParticles(AbstractParticles):
    """A LoRA on the attention of a frozen UNet, trained by denoising score matching."""

    def __init__(self, network: LatentNetwork, rank: int, learning_rate: float) -> None:
        """Add the LoRA to the network's UNet; it begins as no change. One of an earlier run is dropped.

        Args:
            network: The frozen model; without the LoRA, its answers stay what they are.
            rank: Of the LoRA.
            learning_rate: Of AdamW.
        """
        peft = require("peft", "diffusion")
        self.network = network
        self.unet: Any = network.unet
        if ADAPTER in getattr(self.unet, "peft_config", {}):
            self.unet.delete_adapters(ADAPTER)
        targets = ["to_k", "to_q", "to_v", "to_out.0"]
        config = peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)  # peft draws from the global generator
            self.unet.add_adapter(config, ADAPTER)
        self.weights = {n: p for n, p in self.unet.named_parameters() if f".{ADAPTER}." in n}
        for weight in self.weights.values():
            weight.data = weight.data.float()
        self.unet.disable_adapters()
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=learning_rate)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractParticles.denoise`."""
        with self._switched_on():
            return self.network.denoise(z_noisy, sigma, condition)

    def learn(self, z: Tensor, sigma: Tensor, condition: Tensor, generator: torch.Generator) -> float:
        """See `AbstractParticles.learn`. A step whose gradient overflowed is left out."""
        noise = normal_like(z, generator)
        z_noisy = z + sigma[:, None, None, None] * noise
        with self._switched_on(), torch.enable_grad():
            output = self.network.output(z_noisy, sigma, condition)
            loss = (output - self.network.schedule.target(z, noise, sigma)).square().mean()
            # The gradient of a mean over so many numbers would vanish in fp16, so it is taken of the sum.
            (loss * z.numel()).backward()
            gradients = [w.grad.div_(z.numel()) for w in self.weights.values() if w.grad is not None]
            if torch.stack([g.abs().max() for g in gradients]).isfinite().all():
                self.optimizer.step()
            self.optimizer.zero_grad()
        return float(loss.detach())

    def state_tensors(self) -> dict[str, Tensor]:
        """See `AbstractParticles.state_tensors`: "weight.NAME", and AdamW's "exp_avg.NAME" and so on."""
        state = {f"weight.{name}": weight for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            state |= {f"{kind}.{name}": value for kind, value in self.optimizer.state[weight].items()}
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """See `AbstractParticles.load_state_tensors`.

        Raises:
            FileProblem: if they are those of another model, or of a LoRA of another rank.
        """
        for name, weight in self.weights.items():
            saved = tensors.get(f"weight.{name}")
            if saved is None or saved.shape != weight.shape:
                raise FileProblem(
                    f"checkpoint: its LoRA does not fit at {name}. "
                    "Go on with the model and the rank that it was made with."
                )
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[f"weight.{name}"])
            kinds = [kind for kind in ("step", "exp_avg", "exp_avg_sq") if f"{kind}.{name}" in tensors]
            # AdamW counts its steps on the CPU.
            device = {"step": torch.device("cpu")}
            self.optimizer.state[weight] = {
                kind: tensors[f"{kind}.{name}"].to(device.get(kind, weight.device), copy=True) for kind in kinds
            }

    @contextmanager
    def _switched_on(self) -> Iterator[None]:
        self.unet.enable_adapters()
        try:
            yield
        finally:
            self.unet.disable_adapters()
