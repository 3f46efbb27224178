"""The second network of VSD: the UNet of Stable Diffusion with a LoRA that learns the current renderings.

Both networks are one UNet in memory, and the LoRA is one more adapter on it, active only while this file uses it
(ProlificDreamer, Wang et al. 2023, section 4.2; Hu et al. 2021). Other adapters of the UNet belong to the base: both
networks have them, and neither trains them. Nothing else in the package touches peft.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dreamsplat.errors import FileProblem
from dreamsplat.hub.optional import require
from dreamsplat.maths.noise import normal_like
from dreamsplat.priors2d.base import AbstractSecondNetwork
from dreamsplat.priors2d.stable_diffusion.network import LatentNetwork

ADAPTER = "particles"
"""The LoRA's name inside the UNet."""
_ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]


class LoraNetwork(AbstractSecondNetwork):
    """A LoRA on the attention of a frozen UNet, trained by denoising score matching."""

    def __init__(self, network: LatentNetwork, rank: int, learning_rate: float) -> None:
        """Add the LoRA to the frozen network's UNet; it starts as no change. One of an earlier run is dropped."""
        self.network = network
        self._base = _add_adapter(network.unet, rank)
        self.weights = {n: p for n, p in network.unet.named_parameters() if f".{ADAPTER}." in n}
        for weight in self.weights.values():
            weight.data = weight.data.float()
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=learning_rate)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractSecondNetwork.denoise`."""
        with self._switched_on():
            return self.network.denoise(z_noisy, sigma, condition)

    def learn(self, z: Tensor, sigma: Tensor, condition: Tensor, generator: torch.Generator) -> float:
        """See `AbstractSecondNetwork.learn`. A step whose gradient overflows is skipped."""
        noise = normal_like(z, generator)
        z_noisy = z + sigma[:, None, None, None] * noise
        self.optimizer.zero_grad()  # also of a step that ran out of memory half way
        with self._switched_on(), torch.enable_grad():
            output = self.network.output(z_noisy, sigma, condition)
            loss = (output - self.network.schedule.target(z, noise, sigma)).square().mean()
            # The gradient of a mean over so many numbers would vanish in fp16, so the gradient of the sum is taken.
            (loss * z.numel()).backward()
            gradients = [w.grad.div_(z.numel()) for w in self.weights.values() if w.grad is not None]
            if torch.stack([g.abs().max() for g in gradients]).isfinite().all():
                self.optimizer.step()
        return float(loss.detach())

    def state_tensors(self) -> dict[str, Tensor]:
        """See `AbstractSecondNetwork.state_tensors`: "weight.NAME", and AdamW's "exp_avg.NAME" and so on."""
        state = {f"weight.{name}": weight for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            state |= {f"{kind}.{name}": value for kind, value in self.optimizer.state[weight].items()}
        return {name: value.detach().clone() for name, value in state.items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """See `AbstractSecondNetwork.load_state_tensors`.

        Raises:
            FileProblem: if they are those of another model, or of a LoRA of another rank.
        """
        for name, weight in self.weights.items():
            saved = tensors.get(f"weight.{name}")
            if saved is None or saved.shape != weight.shape:
                raise FileProblem(
                    f"checkpoint: its LoRA does not fit at {name}.",
                    advice="Continue with the model and the rank that it was made with.",
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
        for layer, active in self._base.items():
            _activate(layer, [*active, ADAPTER])
        try:
            yield
        finally:
            for layer, active in self._base.items():
                _activate(layer, active)


def _add_adapter(unet: Any, rank: int) -> dict[Any, list[str]]:
    """Add the LoRA, switched off; returns the layers of all adapters, and which are active there without it."""
    peft = require("peft", "diffusion")
    if ADAPTER in getattr(unet, "peft_config", {}):
        unet.delete_adapters(ADAPTER)
    # Names of the adapters that change a layer's output.
    before = {x: [] if x.disable_adapters else list(x.active_adapters) for x in _adapter_layers(unet)}
    config = peft.LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=_ATTENTION)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        torch.manual_seed(0)  # peft draws from the global generator
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # that of the base's adapters
        unet.add_adapter(config, ADAPTER)
    base = {layer: before.get(layer, []) for layer in _adapter_layers(unet)}
    for layer, active in base.items():
        _activate(layer, active)
    return base


def _adapter_layers(unet: nn.Module) -> list[Any]:
    """The layers of a UNet that hold adapters: those of peft."""
    kind = require("peft.tuners.tuners_utils", "diffusion").BaseTunerLayer
    layers: list[Any] = [module for module in unet.modules() if isinstance(module, kind)]
    assert not any(layer.merged for layer in layers), "adapters were fused into the UNet, but not unloaded"
    return layers


def _activate(layer: Any, names: list[str]) -> None:
    """Let these adapters, and no others, change a layer's output; of all its weights only the LoRA's can be trained."""
    layer.set_adapter(names)
    layer.enable_adapters(enabled=True)
    for name, weight in layer.named_parameters():
        weight.requires_grad_(f".{ADAPTER}." in name)
