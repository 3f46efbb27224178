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
from dreamsplat.files.kinds import Kind, kind_of
from dreamsplat.hub.digests import file_sources
from dreamsplat.maths.ranges import check_choice, check_ranges
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig

UP: dict[str, Literal["y", "z"]] = {".glb": "y", ".gltf": "y", ".obj": "y"}
"""Kinds of files in which y points up, by the standard (glTF) or by custom; in others it is z."""
UpAxis = Literal["auto", "y", "z"]
FileColour = Literal["file", "grey"]


@dataclass(frozen=True)
class FromFile(AbstractCloudPriorSpec):
    """Settings of a start from a file. The prompt says what to make of it; nothing is taken from a 3D model."""

    file: Path = Path()
    """A coloured point cloud (.ply), Gaussians in any format that `dreamsplat.load` reads, or a mesh (.glb, .gltf,
    .obj, .off, .ply, .stl)."""
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
    strict: bool = False
    """Refuse a file with points or Gaussians that cannot be drawn, instead of dropping them."""

    def __post_init__(self) -> None:
        """Check the ranges; the file may still be unnamed, as in a default that nobody asked for."""
        check_ranges(self, "prior3d.", count=(1, 10**8), size=(0, inf, True), turn_deg=(-inf, inf))
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
        if os.path.isdir(self.file) and not os.path.isfile(self.file / "meta.json"):
            raise FileProblem(f"{self.file}: is a folder, expected a file.", setting="prior3d.file")
        if not os.path.isdir(self.file) and not read_start(self.file, 1):
            raise FileProblem(f"{self.file}: the file is empty.", setting="prior3d.file", advice="Export it again.")
        if start_kind(self.file).ending in (".glb", ".gltf"):
            from dreamsplat.files.gltf import Glb
            from dreamsplat.files.gltf_extensions import check_required

            check_required(Glb.open(self.file))


def start_kind(path: Path) -> Kind:
    """What a file to start from holds.

    Raises:
        FileProblem: if it is nothing that a run can start from.
    """
    kind = kind_of(path)
    if kind is None or kind.holds == "other":
        why = "a run cannot start from it" if kind is None else f"{kind.words}, from which a run cannot start"
        raise FileProblem(
            f"{path}: {why}.", setting="prior3d.file",
            advice="Name points, Gaussians or a mesh: .ply, .splat, .spz, .sog, .glb, .gltf, .obj, .off, .stl.",
        )  # fmt: skip
    return kind
