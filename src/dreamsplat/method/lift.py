"""Point cloud -> Gaussians: noisy point growing, colour perturbation and initial scales.

GaussianDreamer (Yi et al., CVPR 2024), section 3.2, with the numbers of the official code. Growing comes before the
cloud is scaled to the world: its radius is a length of the 3D prior's own frame. Nothing here carries a gradient.
"""

import logging
from math import inf

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.maths.ranges import check_range
from dreamsplat.types import Gaussians, PointCloud, check_shapes

_log = logging.getLogger(__name__)

_BLOCK = 2**18
"""Candidates looked up at a time; it bounds the memory of growing and does not change the result."""


def grow_points(
    cloud: PointCloud,
    generator: torch.Generator,
    candidates: int = 1_000_000,
    radius: float = 0.01,
    colour_jitter: float = 0.2,
    max_points: int | None = None,
) -> PointCloud:
    """The cloud with a shell of new points around it: grown points first, then the originals unchanged.

    Candidates are drawn uniformly in the bounding box of the cloud and kept where an original is nearer than `radius`;
    each takes the perturbed colour of that nearest original. A cloud without extent has no box to draw from and comes
    back as it is. GaussianDreamer, section 3.2 ("noisy point growing and color perturbation").

    Args:
        cloud: P >= 1 finite points, in the frame of the 3D prior (before any world scale).
        generator: source of all randomness: positions, then colours, then the subset of `max_points`.
        candidates: points drawn in the box, >= 0.
        radius: in the units of `cloud`, > 0; the official 0.01 is for objects that fill [-1, 1].
        colour_jitter: see `perturb_colours`.
        max_points: most points to return, or None for all. Above it a random subset of the grown points is kept; the
            originals always are. The original method has no such limit.

    Raises:
        InvalidInput: for an empty or non-finite cloud, or an argument out of range.
    """
    _check_cloud(cloud)
    check_range("candidates", candidates, 0, inf)
    check_range("radius", radius, 0, inf, above=True)
    check_range("max_points", 0 if max_points is None else max_points, 0, inf)
    xyz, nearest = _grow_positions(cloud.xyz, generator, candidates, radius)
    if candidates > 0 and len(xyz) == 0:
        _log.warning("Growing added no points: none of %d was within %g of the cloud.", candidates, radius)
    rgb = perturb_colours(cloud.rgb[nearest], generator, colour_jitter)
    room = max(0, max_points - len(cloud)) if max_points is not None else len(xyz)
    if len(xyz) > room:
        kept = torch.randperm(len(xyz), generator=generator)[:room].sort().values.to(xyz.device)
        xyz, rgb = xyz[kept], rgb[kept]
    return PointCloud(xyz=torch.cat([xyz, cloud.xyz]), rgb=torch.cat([rgb, cloud.rgb]))


def perturb_colours(
    rgb: Tensor,  # [P, 3] display colours
    generator: torch.Generator,
    jitter: float = 0.2,
) -> Tensor:
    """Colours [P, 3] made brighter by `jitter` * U[0, 1), independently per channel.

    One-sided and not clipped, so a channel may pass 1, as in the official code (paper: a in [0, 0.2], section 3.2).

    Raises:
        InvalidInput: if `jitter` is negative or not finite.
    """
    check_shapes(rgb=(rgb, "P 3"))
    check_range("colour_jitter", jitter, 0, inf)
    return rgb + jitter * _uniform(len(rgb), generator, like=rgb)


def within_radius(
    points: Tensor,  # [P, 3]
    queries: Tensor,  # [Q, 3]
    radius: float,
) -> tuple[Tensor, Tensor]:
    """Which queries have a point strictly nearer than `radius`, and which point that is.

    Returns:
        near [Q] bool, and the index of the nearest point [Q] int64, which is meaningful only where `near` holds.
    """
    # The bound lets the search stop early: 20 times faster than unbounded for the official million candidates.
    from scipy.spatial import KDTree  # Here and not above: it would double the import time of the package.

    check_shapes(points=(points, "P 3"), queries=(queries, "Q 3"))
    distances, indices = KDTree(points.detach().cpu().double().numpy()).query(
        queries.detach().cpu().double().numpy(), distance_upper_bound=radius, workers=torch.get_num_threads()
    )
    near = torch.as_tensor(distances < radius)
    return near.to(queries.device), torch.as_tensor(indices).to(queries.device, torch.int64)


def initial_scales(
    xyz: Tensor,  # [P, 3] world
) -> Tensor:
    """Isotropic standard deviations [P]: the rms distance to the 3 nearest other points, at least sqrt(1e-7).

    The initialisation of 3DGS (Kerbl et al. 2023, section 5.1, as its code computes it); the GaussianDreamer paper says
    "the distance between the nearest two points", its code does this. Coincident points count, at distance 0. With
    fewer than 3 others the mean is over those there are; a lone point gets the floor.

    Raises:
        InvalidInput: if there are no points.
    """
    count = check_shapes(xyz=(xyz, "P 3"))["P"]
    if count == 0:
        raise InvalidInput("initial_scales: 0 points, expected at least 1.")
    if count == 1:
        return xyz.new_tensor([1e-7]).sqrt()
    distances, _ = nearest_neighbours(xyz, xyz, k=min(4, count))
    # The nearest is always at distance 0: the point itself or, just as well, one that coincides with it.
    return distances[:, 1:].square().mean(dim=1).clamp_min(1e-7).sqrt()


def to_gaussians(
    cloud: PointCloud,
    opacity: float = 0.1,
    sh_degree: int = 0,
) -> Gaussians:
    """One isotropic, axis-aligned Gaussian per point. GaussianDreamer, section 3.2; constants of the official code.

    Args:
        cloud: P >= 1 finite points, in world units. Colours outside [0, 1] are kept.
        opacity: of every Gaussian, in [0, 1].
        sh_degree: 0 to 3. Coefficients above degree 0 start at 0.

    Raises:
        InvalidInput: for an empty or non-finite cloud, or an argument out of range.
    """
    _check_cloud(cloud)
    check_range("opacity", opacity, 0, 1)
    check_range("sh_degree", sh_degree, 0, 3)
    count, xyz = len(cloud), cloud.xyz
    sh = xyz.new_zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = rgb_to_sh(cloud.rgb)
    return Gaussians(
        means=xyz,
        scales=initial_scales(xyz)[:, None].repeat(1, 3),
        quats=xyz.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        opacities=xyz.new_full((count,), opacity),
        sh=sh,
    )


def _grow_positions(
    points: Tensor,  # [P, 3]
    generator: torch.Generator,
    candidates: int,
    radius: float,
) -> tuple[Tensor, Tensor]:
    """Candidates that fell near a point [G, 3], in the order drawn, and the index of their nearest point [G]."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    if torch.equal(low, high):
        # Every candidate would be a copy of the one place there is, and a KD-tree of equal points is quadratic.
        candidates = 0
    grown, nearest = [points[:0]], [torch.zeros(0, dtype=torch.int64, device=points.device)]
    for start in range(0, candidates, _BLOCK):
        drawn = low + _uniform(min(_BLOCK, candidates - start), generator, like=points) * (high - low)
        near, index = within_radius(points, drawn, radius)
        grown.append(drawn[near])
        nearest.append(index[near])
    return torch.cat(grown), torch.cat(nearest)


def _uniform(count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers [count, 3] uniform in [0, 1), drawn on the CPU so that every device sees the same ones."""
    return torch.rand((count, 3), generator=generator, dtype=like.dtype).to(like.device)


def _check_cloud(cloud: PointCloud) -> None:
    """Refuse a cloud that is empty or holds a number that is not finite."""
    if len(cloud) == 0:
        raise InvalidInput("PointCloud: 0 points, expected at least 1; the 3D prior or the file gave an empty cloud.")
    if not (bool(cloud.xyz.isfinite().all()) and bool(cloud.rgb.isfinite().all())):
        raise InvalidInput("PointCloud: some coordinate or colour is NaN or infinite; remove such points first.")
