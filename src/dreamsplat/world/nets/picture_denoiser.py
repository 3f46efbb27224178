"""The bundled 2D diffusion model: caption, view and camera -> RGBA image, as a small convolutional UNet.

An image is cut into 4x4-pixel cells (64x64x4 becomes 16x16x64), processed at 16x16 and 8x8, and put together again.
The condition enters three times: as a gain on the channels of every block; as a *layout*, a coarse 16x16 feature map
computed from the condition alone, because at high noise the answer depends on the position, and convolutions know no
position; and, where the exact camera is given, as learned features seen from it (`camera_features.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamsplat.world.nets.camera_features import PosedFeatures
from dreamsplat.world.nets.conditions import ConditionEncoder
from dreamsplat.world.nets.diffusion import NOISE_FEATURES, Noise, noise_features, precondition


@dataclass(frozen=True)
class ImageDenoiserSizes:
    """Sizes of the network; stored beside the weights."""

    resolution: int = 64
    """Image height and width, px; a multiple of 8."""
    cell: int = 4
    """Edge of the cells that become channels, px."""
    channels: tuple[int, int] = (96, 192)
    """Channels at resolution / cell and at half of that; multiples of 64."""
    blocks: int = 2
    """Residual blocks per resolution, on the way down and again on the way up."""
    embedding: int = 384
    """Width of the condition."""
    layout: int = 32
    """Channels of the layout map."""

    def noise(self) -> Noise:
        """Images are 2 x (premultiplied RGB, alpha): zero outside the object, rms about 0.6 over the world."""
        return Noise(sigma_data=0.6, log_sigma_mean=0.0, log_sigma_std=1.6)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the condition scales and shifts the channels between them (Nichol & Dhariwal 2021)."""

    def __init__(self, channels: int, embedding: int) -> None:
        """Create a block that starts as the identity."""
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // 16, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(channels // 16, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """[B, c, h, w], [B, E] -> [B, c, h, w]."""
        gain, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h) * (1 + gain) + shift))


class SelfAttention(nn.Module):
    """Every position looks at every other: parts of the object agree with each other."""

    def __init__(self, channels: int, head: int = 64) -> None:
        """Create a block that starts as the identity; `head` is the channels per head."""
        super().__init__()
        self.head = head
        self.norm = nn.GroupNorm(channels // 16, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] -> [B, c, h, w]."""
        b, c, h, w = x.shape
        # Plain products: with 64 positions they train faster on a CPU than the fused attention kernel.
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c // self.head, self.head, h * w).unbind(1)
        weights = (q.transpose(-1, -2) @ k * self.head**-0.5).softmax(dim=-1)
        return x + self.out((v @ weights.transpose(-1, -2)).reshape(b, c, h, w))


class ImageDenoiser(nn.Module):
    """D(z + sigma n; sigma, condition): the optimal-denoiser estimate of a clean RGBA image."""

    def __init__(self, config: ImageDenoiserSizes) -> None:
        super().__init__()
        self.config = config
        self.noise = config.noise()
        fine, coarse = config.channels
        cells = 4 * config.cell**2
        self.grid = config.resolution // config.cell
        width = config.embedding
        self.condition = ConditionEncoder(width)
        self.sigma = nn.Linear(NOISE_FEATURES, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.layout = nn.Linear(width, config.layout * self.grid**2)
        self.posed = PosedFeatures(fine, self.grid)
        self.entry = nn.Conv2d(cells + config.layout, fine, 3, padding=1)
        self.down_fine = nn.ModuleList(ResidualBlock(fine, width) for _ in range(config.blocks))
        self.shrink = nn.Conv2d(fine, coarse, 2, stride=2)
        self.down_coarse = nn.ModuleList(ResidualBlock(coarse, width) for _ in range(config.blocks))
        self.attention = SelfAttention(coarse)
        self.up_coarse = nn.ModuleList(ResidualBlock(coarse, width) for _ in range(config.blocks))
        self.grow = nn.Conv2d(coarse, fine, 1)
        self.up_fine = nn.ModuleList(ResidualBlock(fine, width) for _ in range(config.blocks))
        self.exit_norm = nn.GroupNorm(fine // 16, fine)
        self.exit = nn.Conv2d(fine, cells, 3, padding=1)
        self.bypass_gain = nn.Linear(width, cells)
        self.bypass = nn.Conv2d(cells, cells, 3, padding=1)
        for zeroed in (self.exit, self.bypass, self.bypass_gain):
            nn.init.zeros_(zeroed.weight)
        nn.init.ones_(self.bypass_gain.bias)

    def forward(self, z_noisy: Tensor, sigma: Tensor, packed: Tensor) -> Tensor:
        """Denoise.

        Args:
            z_noisy: [B, 4, R, R] image 2 x (premultiplied RGB, alpha) plus sigma times standard normal noise.
            sigma: [B] noise levels.
            packed: [B, 8] conditions as `pack_condition` makes them.

        Returns:
            [B, 4, R, R] clean estimate D.
        """
        return precondition(lambda x, c: self.predict(x, c, packed), z_noisy, sigma, self.noise.sigma_data)

    def predict(self, x: Tensor, c_noise: Tensor, packed: Tensor) -> Tensor:
        """The raw network F: scaled image [B, 4, R, R], c_noise [B], conditions [B, 8] -> [B, 4, R, R]."""
        embedding = self.mix(self.condition(packed) + self.sigma(noise_features(c_noise)))
        layout = self.layout(embedding).reshape(-1, self.config.layout, self.grid, self.grid)
        cells = F.pixel_unshuffle(x, self.config.cell).to(layout.dtype).contiguous(memory_format=torch.channels_last)
        h = self.entry(torch.cat([cells, layout], dim=1)) + self.posed(packed)
        skips = [h]
        for block in self.down_fine:
            h = block(h, embedding)
            skips.append(h)
        h = shrunk = self.shrink(h)
        for block in self.down_coarse:
            h = block(h, embedding)
        h = self.attention(h)
        for block in self.up_coarse:
            h = block(h, embedding)
        h = self.grow(F.interpolate(h + shrunk, scale_factor=2)) + skips.pop()
        for block in self.up_fine:
            h = block(h + skips.pop(), embedding)
        # A linear path for the noise of single pixels, which the answer must hold or cancel exactly at low noise.
        bypass = self.bypass(cells * self.bypass_gain(embedding)[:, :, None, None])
        output = self.exit(F.silu(self.exit_norm(h))) + bypass
        return F.pixel_shuffle(output, self.config.cell).float()
