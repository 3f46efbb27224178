"""Settings of a start from a file: a coloured point cloud, Gaussians or a mesh in place of a 3D diffusion model.

With a posed human body this is the avatar mode of GaussianDreamer (Yi et al., CVPR 2024); docs/starting-points.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import read_start
from dreamsplat.hub.digests import file_sources
from dreamsplat.maths.ranges import check_choice, check_range
from dreamsplat.priors3d.base import AbstractCloudPriorSpec

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig
    from dreamsplat.priors3d.base import AbstractCloudPrior

UP: dict[str, Literal["y", "z"]] = {".glb": "y", ".gltf": "y", ".obj": "y", ".off": "z", ".ply": "z", ".stl": "z"}
"""The suffixes that can be read, and which axis points up in them: by the standard (glTF) or by custom."""
UpAxis = Literal["auto", "y", "z"]
FileColour = Literal["file", "grey"]


@dataclass(frozen=True)
class FromFile(AbstractCloudPriorSpec):
    """Settings of a start from a file. The prompt says what to make of it; nothing is taken from a 3D model."""

    file: Path = Path()
    """A coloured point cloud (.ply), Gaussians (.ply, .glb), or a mesh (.glb, .gltf, .obj, .off, .ply, .stl)."""
    count: int | None = 50_000
    """Points drawn on the surface of a mesh, uniformly by area; a larger cloud is thinned to as many at random. None
    keeps all points of a cloud."""
    up: UpAxis = "auto"
    """The file's axis that points up; its front is then +z or -y. auto: y for .glb, .gltf and .obj, z for others."""
    turn_deg: float = 0.0
    """Turn about the vertical axis, counter-clockwise seen from above: 90 brings what faced -x to the front."""
    centre: bool = True
    """Move the middle of the bounding box to where the cameras look; otherwise the file's origin stays there."""
    size: float | None = 1.0
    """Half of the longest side of the bounding box, before `representation.lift.world_scale`; None keeps the units of
    the file."""
    colour: FileColour = "file"
    """Colours of the file, where it has any, or grey for all points."""

    def __post_init__(self) -> None:
        """Check the ranges; the file may still be unnamed, as in a default that nobody asked for."""
        if self.count is not None:
            check_range("prior3d.count", self.count, 1, 10**8)
        if self.size is not None:
            check_range("prior3d.size", self.size, 0, inf, above=True)
        check_range("prior3d.turn_deg", self.turn_deg, -inf, inf)
        check_choice("prior3d.up", self.up, UpAxis)
        check_choice("prior3d.colour", self.colour, FileColour)

    def check(self, config: DreamConfig) -> None:
        """See `AbstractCloudPriorSpec.check`."""
        self._check_file()

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """Read the file.

        Raises:
            InvalidInput: if no file is named, or it is a mesh and there is no `count`.
            FileProblem: if the file is missing, damaged, empty, or of an unknown kind.
            MissingDependency: if the file is a mesh, and trimesh is not installed.
        """
        self._check_file()
        from dreamsplat.priors3d.cloud_file import CloudFile

        return CloudFile(self, device)

    def sources(self) -> dict[str, str]:
        """See `AbstractCloudPriorSpec.sources`."""
        return file_sources(self.file)

    def _check_file(self) -> None:
        if self.file == Path():
            raise InvalidInput("no file is named.", setting="prior3d.file", advice="Name one, such as chair.glb.")
        if os.path.isdir(self.file):
            raise FileProblem(f"{self.file}: is a folder, expected a file.", setting="prior3d.file")
        if self.file.suffix.lower() not in UP:
            unknown = f"'{self.file.suffix}' is not a kind of file that a run can start from"
            raise FileProblem(
                f"{self.file}: {unknown if self.file.suffix else 'its name has no ending that says what it is'}.",
                setting="prior3d.file", advice=f"Known: {', '.join(UP)}.",
            )  # fmt: skip
        if not read_start(self.file, 1):
            raise FileProblem(f"{self.file}: the file is empty.", setting="prior3d.file", advice="Export it again.")
