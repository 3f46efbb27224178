"""What the method asks of a 3D diffusion model: a coloured point cloud for a text."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from dreamsplat.types import PointCloud


class AbstractCloudPrior(ABC):
    """A 3D diffusion model as the method sees it."""

    @abstractmethod
    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """A coarse, coloured cloud [P, 3] of what the prompt says: +z up, front towards -y, around the origin."""
