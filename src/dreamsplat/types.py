"""The values that pass through the method, and the letters that name their sizes.

| letter | meaning |
|---|---|
| P | points of a cloud |
| N | Gaussians |
| C | cameras in a batch |
| H, W | image height and width, px |
| K | spherical-harmonic coefficients per colour, (degree + 1)^2: 1, 4, 9 or 16 |

World frame: right-handed, +z up, an object's front faces -y; lengths are world units. Camera frame: OpenCV (x right,
y down, z forward). Colours are display values (sRGB numbers, as stored in image files), nominally in [0, 1].
Quaternions are (w, x, y, z). Values are immutable: `.to(device)` and `dataclasses.replace` make new ones. A value
equals only itself; to compare two, compare their tensors, for example by `torch.equal(a.means, b.means)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from dreamsplat.errors import InvalidInput


def check_shapes(**named: tuple[Tensor, str]) -> dict[str, int]:
    """Check tensors against patterns such as `"N 3"`, and return the size of each letter.

    Args:
        **named: name = (tensor, pattern). A pattern lists sizes separated by spaces: a number must match exactly, a
            letter must have the same size wherever it occurs.

    Raises:
        InvalidInput: naming the tensor, the shape received and the shape expected.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, pattern) in named.items():
        expected = pattern.split()
        shape = tuple(tensor.shape)
        fits = len(shape) == len(expected)
        for size, letter in zip(shape, expected, strict=False):
            due = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
            fits = fits and due == size
        if not fits:
            known = ", ".join(f"{k} = {v}" for k, v in sizes.items())
            wanted = f"[{', '.join(expected)}]" + (f" with {known}" if known else "")
            raise InvalidInput(f"{name}: shape {list(shape)}, expected {wanted}.")
    return sizes


class _TensorValue:
    """What frozen dataclasses of tensors share: their tensors by name, and changed copies."""

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, in the order in which the fields are declared."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with a function applied to every tensor."""
        inner = {name: value.map(change) for name, value in vars(self).items() if isinstance(value, _TensorValue)}
        changed = {name: change(value) for name, value in self.tensors().items()}
        return type(self)(**{**vars(self), **inner, **changed})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """A copy with `.to(...)` applied to every tensor."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> Self:
        """A copy detached from the autograd graph."""
        return self.map(lambda tensor: tensor.detach())


def _extent(
    positions: Tensor,  # [N, 3]
) -> str:
    """Where positions lie, their dtype and device: "within [0, 1] x [0, 1] x [0, 1], float32 on cpu"."""
    made_of = f"{str(positions.dtype).removeprefix('torch.')} on {positions.device}"
    if len(positions) == 0:
        return made_of
    low, high = (ends.tolist() for ends in positions.detach().aminmax(dim=0))
    return f"within {' x '.join(f'[{a:.3g}, {b:.3g}]' for a, b in zip(low, high, strict=True))}, {made_of}"


@dataclass(frozen=True, eq=False)
class PointCloud(_TensorValue):
    """Coloured points, as a 3D prior returns them."""

    xyz: Tensor
    """[P, 3] positions, world units."""
    rgb: Tensor
    """[P, 3] display colours, nominally in [0, 1]."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shapes(xyz=(self.xyz, "P 3"), rgb=(self.rgb, "P 3"))

    def __len__(self) -> int:
        """The number of points P."""
        return self.xyz.shape[0]

    def __repr__(self) -> str:
        """On one line."""
        return f"PointCloud: {len(self):,} points, {_extent(self.xyz)}"


class AbstractAsset(_TensorValue, ABC):
    """What a run makes: a frozen dataclass of tensors. `dreamsplat.assets.render_asset` shows it."""

    own_ending: ClassVar[str | None] = None
    """Ending of files that `dreamsplat.save` writes the whole asset to; None if Gaussians are all of it."""

    @property
    @abstractmethod
    def size(self) -> str:
        """How large it is, in words: "4,096 Gaussians"."""

    @abstractmethod
    def gaussians(self) -> Gaussians:
        """The Gaussians that viewers and files get; for other kinds of assets making them may take seconds."""


@dataclass(frozen=True, eq=False)
class Gaussians(AbstractAsset):
    """A set of 3D Gaussians in physical units (never logits or logarithms). Kerbl et al. 2023, section 4."""

    means: Tensor
    """[N, 3] centres, world units."""
    scales: Tensor
    """[N, 3] standard deviations along the Gaussian's own axes, world units, > 0."""
    quats: Tensor
    """[N, 4] rotations from the Gaussian's own axes to the world, (w, x, y, z); any non-zero length."""
    opacities: Tensor
    """[N] peak opacity, in [0, 1]."""
    sh: Tensor
    """[N, K, 3] spherical-harmonic coefficients: colour = 0.5 + sum_k basis_k(direction) sh_k, at least 0."""

    def __post_init__(self) -> None:
        """Check shapes."""
        sizes = check_shapes(
            means=(self.means, "N 3"), scales=(self.scales, "N 3"), quats=(self.quats, "N 4"),
            opacities=(self.opacities, "N"), sh=(self.sh, "N K 3"),
        )  # fmt: skip
        if sizes["K"] not in (1, 4, 9, 16):
            raise InvalidInput(f"sh: {sizes['K']} coefficients per colour, expected 1, 4, 9 or 16 (degree 0 to 3).")

    def __len__(self) -> int:
        """The number of Gaussians N."""
        return self.means.shape[0]

    @property
    def size(self) -> str:
        """See `AbstractAsset.size`."""
        return f"{len(self):,} Gaussians"

    def gaussians(self) -> Gaussians:
        """Itself."""
        return self

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    def __repr__(self) -> str:
        """On one line."""
        return f"Gaussians: {len(self):,}, SH degree {self.sh_degree}, {_extent(self.means)}"


@dataclass(frozen=True, eq=False)
class Cameras(_TensorValue):
    """A batch of pinhole cameras that share one image size."""

    world_to_camera: Tensor
    """[C, 4, 4] rigid transforms, OpenCV camera axes."""
    intrinsics: Tensor
    """[C, 3, 3] pinhole matrices in px; pixel (i, j) has its centre at (j + 0.5, i + 0.5)."""
    width: int
    """Image width, px."""
    height: int
    """Image height, px."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shapes(world_to_camera=(self.world_to_camera, "C 4 4"), intrinsics=(self.intrinsics, "C 3 3"))
        if self.width < 1 or self.height < 1:
            raise InvalidInput(f"Cameras: image size {self.width} x {self.height}, expected at least 1 x 1.")

    def __len__(self) -> int:
        """The number of cameras C."""
        return self.world_to_camera.shape[0]

    def rows(self, index: Tensor) -> Cameras:
        """The cameras that a tensor of indices (or a mask [C]) selects."""
        return self.map(lambda tensor: tensor[index])


@dataclass(frozen=True, eq=False)
class Views(_TensorValue):
    """Cameras on a sphere around the origin, with the angles that define them (for prompts and camera tokens)."""

    cameras: Cameras
    """The C cameras."""
    azimuth_deg: Tensor
    """[C] in [-180, 180); 0 faces the object's front, and it grows clockwise as seen from +z."""
    elevation_deg: Tensor
    """[C] in [-90, 90], above the horizon."""
    distance: Tensor
    """[C] from the origin, world units."""
    fov_y_deg: Tensor
    """[C] vertical field of view."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shapes(
            world_to_camera=(self.cameras.world_to_camera, "C 4 4"), azimuth_deg=(self.azimuth_deg, "C"),
            elevation_deg=(self.elevation_deg, "C"), distance=(self.distance, "C"), fov_y_deg=(self.fov_y_deg, "C"),
        )  # fmt: skip

    def __len__(self) -> int:
        """The number of views C."""
        return len(self.cameras)


@dataclass(frozen=True, eq=False)
class Rendering(_TensorValue):
    """What a renderer returns for C cameras."""

    rgb: Tensor
    """[C, H, W, 3] colour over the background; not clamped."""
    alpha: Tensor
    """[C, H, W] coverage, in [0, 1]."""
    depth: Tensor
    """[C, H, W] camera-space z accumulated by opacity, world units (not divided by alpha)."""
    radii_px: Tensor
    """[C, N] half of a Gaussian's longest visible extent on screen, px; 0 where it is culled. No gradient."""


@dataclass(frozen=True, eq=False)
class Step:
    """What `dream_steps` yields after each stage and each optimisation step."""

    stage: Literal["lift", "distil"]
    """"lift" once, when the representation is there; then "distil"."""
    index: int
    """Optimisation steps done so far, 0 to `total`."""
    total: int
    """Optimisation steps of the whole run."""
    asset: AbstractAsset
    """The asset now; detached."""
    cloud: PointCloud | None
    """The 3D prior's point cloud before growing, world units; at the "lift" stage only."""
    rendering: Rendering | None
    """The renderings that this step optimised, detached; None before the first step."""
    metrics: dict[str, float]
    """Plain numbers for logging: gradient norm, sigma, Gaussian count, ..."""
    snapshot: dict[str, Tensor]
    """Everything `dream_steps` needs to continue from here, bit for bit. On the run's device; stays valid."""

    @property
    def gaussians(self) -> Gaussians:
        """The asset of a run that optimises Gaussians.

        Raises:
            InvalidInput: if it is of another kind; `asset.gaussians()` turns it into Gaussians.
        """
        if not isinstance(self.asset, Gaussians):
            raise InvalidInput(
                f"Step.gaussians: the run makes a {type(self.asset).__name__}, expected Gaussians.",
                advice="Use `Step.asset`, or `Step.asset.gaussians()` to turn it into Gaussians.",
            )
        return self.asset
