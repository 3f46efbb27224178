"""Operations on Gaussians and point clouds: each takes a value and returns a new one, on the same device."""

import dataclasses
from typing import TypeVar

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import DC, rgb_to_sh, sh_basis, sh_to_rgb
from dreamsplat.types import Gaussians, PointCloud, check_shapes

Splats = TypeVar("Splats", Gaussians, PointCloud)
"""Either kind of value; what comes in comes out."""

FAINT = 0.05
"""Gaussians of less opacity are not points of the object: the bound below which the method itself removes them."""


def positions(splats: Gaussians | PointCloud) -> Tensor:
    """The centres of Gaussians or the points of a cloud [N, 3], world units."""
    return splats.means if isinstance(splats, Gaussians) else splats.xyz


def bounds(splats: Gaussians | PointCloud) -> tuple[Tensor, Tensor]:
    """The lower and upper corner [3] of the box around all centres or points, world units.

    Raises:
        InvalidInput: if there are none.
    """
    if len(splats) == 0:
        raise InvalidInput("bounds: there are no Gaussians or points, so there is no box around them.")
    low, high = positions(splats).aminmax(dim=0)
    return low, high


def rows(splats: Splats, index: Tensor | slice) -> Splats:
    """Some of the Gaussians or points, in the order of the index.

    Args:
        splats: N of them.
        index: a mask [N] of booleans, indices [M] in any order and with repetitions, or a slice.
    """
    return splats.map(lambda tensor: tensor[index])


def join(first: Splats, *others: Splats) -> Splats:
    """All Gaussians or points of all values, one after another. Harmonics take the highest degree among them.

    Raises:
        InvalidInput: if Gaussians are joined with a point cloud.
    """
    parts = [first, *others]
    if len({type(part) for part in parts}) > 1:
        raise InvalidInput("join: Gaussians and a point cloud, expected values of one kind.")
    degree = max((part.sh_degree for part in parts if isinstance(part, Gaussians)), default=0)
    parts = [with_sh_degree(part, degree) if isinstance(part, Gaussians) else part for part in parts]
    tensors = [part.tensors() for part in parts]
    return type(first)(**{name: torch.cat([each[name] for each in tensors]) for name in tensors[0]})


def moved(splats: Splats, offset: Tensor | tuple[float, float, float]) -> Splats:
    """The same object in another place.

    Args:
        splats: what to move.
        offset: [3] added to each position, world units.
    """
    return _at(splats, positions(splats) + _vector("offset", offset, splats))


def scaled(splats: Splats, factor: float) -> Splats:
    """The same object larger or smaller, about the origin.

    Raises:
        InvalidInput: if the factor is not a finite number above 0.
    """
    if not 0 < factor < float("inf"):
        raise InvalidInput(f"scaled: factor {factor}, expected a finite number above 0.")
    larger = _at(splats, factor * positions(splats))
    return dataclasses.replace(larger, scales=factor * splats.scales) if isinstance(splats, Gaussians) else larger


def in_box(
    splats: Splats, low: Tensor | tuple[float, float, float], high: Tensor | tuple[float, float, float]
) -> Splats:
    """The Gaussians or points whose centres lie in a box.

    Args:
        splats: what to crop.
        low: [3] the lower corner of the box, world units; infinite where it is open.
        high: [3] the upper corner; both corners belong to the box.
    """
    places = positions(splats)
    inside = (places >= _vector("low", low, splats)) & (places <= _vector("high", high, splats))
    return rows(splats, inside.all(dim=1))


def in_ball(splats: Splats, radius: float, centre: Tensor | tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Splats:
    """The Gaussians or points whose centres lie in a ball.

    Args:
        splats: what to crop.
        radius: of the ball, world units; its surface belongs to it.
        centre: [3] of the ball.
    """
    return rows(splats, (positions(splats) - _vector("centre", centre, splats)).norm(dim=1) <= radius)


def recoloured(
    splats: Splats,
    matrix: Tensor,  # [3, 3] new rgb = matrix @ old rgb + offset
    offset: Tensor | tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Splats:
    """The same object after a linear change of its display colours, from every direction.

    `torch.diag(torch.tensor([1.0, 0.9, 0.8]))` tints it, `torch.tensor([[0.3, 0.6, 0.1]] * 3)` makes it grey. A change
    of colours that is linear is one of the harmonics too, so it is exact wherever colours are not clamped at 0.
    """
    check_shapes(matrix=(matrix, "3 3"))
    change, more = matrix.to(positions(splats)), _vector("offset", offset, splats)
    if isinstance(splats, PointCloud):
        return dataclasses.replace(splats, rgb=splats.rgb @ change.mT + more)
    sh = splats.sh @ change.mT
    constant = sh[:, :1] + (0.5 * change.sum(dim=1) + more - 0.5) / DC  # colour = 0.5 + ..., and the 0.5 changes too.
    return dataclasses.replace(splats, sh=torch.cat([constant, sh[:, 1:]], dim=1))


def painted(splats: Splats, rgb: Tensor | tuple[float, float, float]) -> Splats:
    """The same object in new display colours, the same from every direction.

    Args:
        splats: N Gaussians, whose harmonics become degree 0, or points.
        rgb: [3] for all, or [N, 3].
    """
    colours = torch.as_tensor(rgb).to(positions(splats)).expand(len(splats), 3)
    if isinstance(splats, PointCloud):
        return dataclasses.replace(splats, rgb=colours)
    return dataclasses.replace(splats, sh=rgb_to_sh(colours)[:, None])


def with_sh_degree(gaussians: Gaussians, degree: int) -> Gaussians:
    """The same Gaussians with harmonics of another degree: missing coefficients are 0, higher ones are dropped.

    Raises:
        InvalidInput: if the degree is not 0, 1, 2 or 3.
    """
    if degree not in (0, 1, 2, 3):
        raise InvalidInput(f"{degree}, expected 0, 1, 2 or 3.", setting="sh_degree")
    kept = gaussians.sh[:, : (degree + 1) ** 2]
    zeros = kept.new_zeros(len(kept), (degree + 1) ** 2 - kept.shape[1], 3)
    return dataclasses.replace(gaussians, sh=torch.cat([kept, zeros], dim=1))


def colours_towards(
    gaussians: Gaussians,
    directions: Tensor,  # [3] or [N, 3] from the camera to the Gaussian, world axes; any length but 0
) -> Tensor:
    """Display colours [N, 3] as seen along a direction: at least 0, may exceed 1, as in the renderers."""
    along = torch.nn.functional.normalize(directions.to(gaussians.means), dim=-1).expand(len(gaussians), 3)
    basis = sh_basis(along, gaussians.sh_degree)  # [N, K]
    return (0.5 + torch.einsum("nk,nkc->nc", basis, gaussians.sh)).clamp(min=0)


def solid_points(gaussians: Gaussians, min_opacity: float = FAINT) -> PointCloud:
    """The centres of all Gaussians that are not faint, in the colour that they have on average over all sides.

    Args:
        gaussians: what to take them from.
        min_opacity: Gaussians of less opacity are left out.
    """
    solid = rows(gaussians, gaussians.opacities >= min_opacity)
    return PointCloud(xyz=solid.means, rgb=sh_to_rgb(solid.sh[:, 0]).clamp(0, 1))


def _at(splats: Splats, places: Tensor) -> Splats:
    """The same with other positions [N, 3]."""
    name = "means" if isinstance(splats, Gaussians) else "xyz"
    return dataclasses.replace(splats, **{name: places})


def _vector(name: str, numbers: Tensor | tuple[float, float, float], like: Gaussians | PointCloud) -> Tensor:
    """Three numbers [3] with the dtype and device of positions."""
    vector = torch.as_tensor(numbers).to(positions(like))
    check_shapes(**{name: (vector, "3")})
    return vector
