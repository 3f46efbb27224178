"""The bundled 3D diffusion model: caption -> the latent of a shape, as a residual multilayer perceptron.

Its sample is a coarse object, the same from every side by construction: what Shap-E gives GaussianDreamer, in small.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from dreamsplat.world.nets.conditions import ConditionEncoder
from dreamsplat.world.nets.diffusion import NOISE_FEATURES, Noise, noise_features, precondition


@dataclass(frozen=True)
class ShapeDenoiserSizes:
    """Sizes of the network; stored beside the weights."""

    latent: int = 224
    """Length of a latent: shape, then colour."""
    width: int = 512
    """Width of the residual stream."""
    blocks: int = 3
    """Residual blocks."""

    def noise(self) -> Noise:
        """Latents are scaled to an rms of about 0.5."""
        return Noise(sigma_data=0.5, log_sigma_mean=-1.0, log_sigma_std=1.5)


class MlpBlock(nn.Module):
    """A gated residual block; the condition scales and shifts its input."""

    def __init__(self, width: int) -> None:
        """Create a block that starts as the identity."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = nn.Linear(width, 2 * width)
        self.enter = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(2 * width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, width], [B, width] -> [B, width]."""
        gain, shift = self.modulation(embedding).chunk(2, dim=1)
        return x + self.leave(F.silu(self.enter(self.norm(x) * (1 + gain) + shift)))


class ShapeDenoiser(nn.Module):
    """D(z + sigma n; sigma, condition) for latents of shapes."""

    def __init__(self, config: ShapeDenoiserSizes) -> None:
        super().__init__()
        self.config = config
        self.noise = config.noise()
        width = config.width
        self.condition = ConditionEncoder(width)
        self.sigma = nn.Linear(NOISE_FEATURES, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.entry = nn.Linear(config.latent, width)
        self.blocks = nn.ModuleList(MlpBlock(width) for _ in range(config.blocks))
        self.exit_norm = nn.LayerNorm(width)
        self.exit = nn.Linear(width, config.latent)
        nn.init.zeros_(self.exit.weight)

    def forward(self, z_noisy: Tensor, sigma: Tensor, packed: Tensor) -> Tensor:
        """Denoise: z_noisy [B, latent], sigma [B], packed conditions [B, 8] -> clean estimate [B, latent]."""
        return precondition(lambda x, c: self.predict(x, c, packed), z_noisy, sigma, self.noise.sigma_data)

    def predict(self, x: Tensor, c_noise: Tensor, packed: Tensor) -> Tensor:
        """The raw network F: scaled latent [B, latent], c_noise [B], conditions [B, 8] -> [B, latent]."""
        embedding = self.mix(self.condition(packed) + self.sigma(noise_features(c_noise)))
        h = self.entry(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.exit(F.silu(self.exit_norm(h)))
