"""What an asset is worth, in numbers: is it what the caption says, in that colour, in that shape, from every side?

Every asset is seen from 8 azimuths, 45 degrees apart, at elevation 15, distance 3, field of view 40 and 64 px, and
scored by the judge (`dreamsplat.evaluate.judge`), which never saw a generated picture.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import torch
from scipy.spatial import KDTree
from torch import Tensor

from dreamsplat.assets import render_asset
from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.evaluate.judge import REFERENCE_SEED, RESOLUTION, SECTORS, Judge, azimuth_class
from dreamsplat.maths.rotations import rotation_from_quats
from dreamsplat.method.cameras import orbit
from dreamsplat.priors2d.bundled_model import premultiplied
from dreamsplat.render import render
from dreamsplat.types import Gaussians
from dreamsplat.world.language.captions import caption, held_out_pairs, parse_caption, trained_pairs
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.draw_object import draw_object

POINTS = 2048
"""Points of a shape that distances are measured from."""
DENSE_POINTS = 8192
"""Points of the shape that distances are measured to: with fewer, they would mostly show how far apart points lie."""
REAL_OBJECTS = 64
"""Procedural objects per category that shapes are compared with."""
COLOUR_OBJECTS = 6
"""Procedural objects per caption that colours are compared with."""
VISIBLE_OPACITY = 0.05
"""Gaussians fainter than this do not count as part of a shape."""


@dataclass(frozen=True)
class Score:
    """How good one asset is."""

    rank: int
    """Place of its caption among all captions, by the judge's score over the 8 views; 1 is retrieved."""
    read_as: str
    """The caption in the first place."""
    colour_right: bool
    """Whether the colour of that caption is the right one."""
    colour_error: float
    """Distance of its mean visible colour [3] from that of real objects of the caption, in display colours."""
    views_right: float
    """Share of the views that, judged alone, put the caption first."""
    view_agreement: float | None
    """Share of the views whose azimuth the judge gets right, to 45 degrees; None without a front."""
    chamfer: float
    """Chamfer distance to the nearest real object; 1 is as near as real ones are to each other."""


def score(asset: Gaussians | RadianceField, prompt: str, judge: Judge, real_objects: int = REAL_OBJECTS) -> Score:
    """Score an asset against the caption that it was made from, such as "a red mushroom"."""
    asked = parse_caption(prompt)
    assert asked.colour is not None and asked.category is not None, f"{prompt}: expected a colour and an object"
    views = orbit(SECTORS, size=RESOLUTION)
    z = premultiplied(render_asset(asset, views.cameras, (0, 0, 0)))
    verdict = judge.verdict(z)

    fit = verdict.captions()
    first = int(fit.argmax())
    colour, category = COLOUR_NAMES[first // len(CATEGORY_NAMES)], CATEGORY_NAMES[first % len(CATEGORY_NAMES)]
    alone = (verdict.colour.argmax(1) == asked.colour) & (verdict.category.argmax(1) == asked.category)
    azimuth_right = verdict.azimuth.argmax(1) == azimuth_class(views.azimuth_deg)
    name = CATEGORY_NAMES[asked.category]
    return Score(
        rank=1 + int((fit > fit[asked.colour, asked.category]).sum()),
        read_as=caption(colour, category),
        colour_right=colour == COLOUR_NAMES[asked.colour],
        colour_error=float((_mean_colour(z) - _real_colour(prompt)).norm()),
        views_right=float(alone.float().mean()),
        view_agreement=float(azimuth_right.float().mean()) if CATEGORIES[name].has_front else None,
        chamfer=relative_chamfer(visible_points(asset, prompt), name, real_objects),
    )


def _mean_colour(z: Tensor) -> Tensor:
    """The mean colour [3] of all that model images z [B, 4, H, W] show; black if they show nothing."""
    red, green, blue, alpha = z.sum(dim=(0, 2, 3)).unbind()
    return torch.stack([red, green, blue]) / alpha.clamp_min(1e-6)


@functools.cache
def _real_colour(prompt: str) -> Tensor:
    """The mean visible colour [3] of real objects of a caption."""
    generator = torch.Generator().manual_seed(REFERENCE_SEED)
    cameras = orbit(SECTORS, size=RESOLUTION).cameras
    objects = [draw_object(parse_caption(prompt), generator) for _ in range(COLOUR_OBJECTS)]
    return torch.stack([_mean_colour(premultiplied(render(object_, cameras))) for object_ in objects]).mean(0)


def visible_points(asset: Gaussians | RadianceField, name: str) -> Tensor:
    """Points [DENSE_POINTS, 3] that stand for the shape of an asset, the same ones for the same `name`.

    Of a field, samples are chosen in proportion to their weight in pictures from all around. Gaussians are chosen in
    proportion to opacity times area, and a point is drawn from each. An asset where none can be
    seen counts as a point at the origin, far from any real object.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    generator = torch.Generator().manual_seed(seed)
    if isinstance(asset, RadianceField):
        return _lit_points(asset, generator)
    gaussians = asset
    a, b, c = gaussians.scales.unbind(1)
    weight = (gaussians.opacities * (a * b + b * c + c * a)).where(gaussians.opacities >= VISIBLE_OPACITY, 0.0)
    if not bool((weight > 0).any()):
        return torch.zeros(DENSE_POINTS, 3)
    chosen = torch.multinomial(weight, DENSE_POINTS, replacement=True, generator=generator)
    offsets = gaussians.scales[chosen] * torch.randn(DENSE_POINTS, 3, generator=generator)
    rotation = rotation_from_quats(gaussians.quats[chosen])
    return gaussians.means[chosen] + (rotation @ offsets[:, :, None])[:, :, 0]


def _lit_points(field: RadianceField, generator: torch.Generator) -> Tensor:
    """Points [DENSE_POINTS, 3] where light of a field comes from."""
    places, weights = [], []
    for elevation_deg in (-30.0, 15.0, 60.0):
        cameras = orbit(SECTORS, elevation_deg=elevation_deg, size=RESOLUTION).cameras
        with torch.no_grad():
            _, weight, samples = field.render(cameras, torch.zeros(3))
        places.append(samples.points[weight >= VISIBLE_OPACITY])
        weights.append(weight[weight >= VISIBLE_OPACITY])
    weight = torch.cat(weights)
    if len(weight) == 0:
        return torch.zeros(DENSE_POINTS, 3)
    light = weight.double().cumsum(dim=0)
    drawn = torch.rand(DENSE_POINTS, generator=generator, dtype=torch.float64) * light[-1]
    return torch.cat(places)[torch.searchsorted(light, drawn).clamp_max(len(light) - 1)]


def relative_chamfer(points: Tensor, category: str, real_objects: int = REAL_OBJECTS) -> float:
    """Chamfer distance of points [P, 3] in random order to the nearest real object, over the mean between real ones."""
    real, spread = _real_objects(category, real_objects)
    return _to_nearest(_Shape.of(points), real) / spread


@dataclass(frozen=True, eq=False)
class _Shape:
    points: Tensor
    """[P, 3] in random order, so that any prefix is a sample."""
    tree: KDTree

    @staticmethod
    def of(points: Tensor) -> _Shape:
        return _Shape(points, KDTree(points.numpy()))


def _chamfer(a: _Shape, b: _Shape, points: int) -> float:
    """Mean distance from some points of each to the nearest of the other, world units."""
    there, back = (x.tree.query(y.points[:points].numpy())[0].mean() for x, y in ((a, b), (b, a)))
    return float(there + back) / 2


def _to_nearest(shape: _Shape, others: list[_Shape]) -> float:
    """Chamfer distance to the nearest of other shapes; a few points suffice to find the three that it can be."""
    likely = sorted(others, key=lambda other: _chamfer(shape, other, POINTS // 16))[:3]
    return min(_chamfer(shape, other, POINTS) for other in likely)


@functools.cache
def _real_objects(category: str, count: int) -> tuple[list[_Shape], float]:
    """Real objects of a category, and the mean Chamfer distance from each to the nearest other.

    They are measured as assets are, as Gaussians: a perfect asset is as fuzzy as they are.
    """
    generator = torch.Generator().manual_seed(REFERENCE_SEED)
    asked = parse_caption(category)
    objects = [draw_object(asked, generator) for _ in range(count)]
    shapes = [_Shape.of(visible_points(object_, f"{category} {i}")) for i, object_ in enumerate(objects)]
    nearest = [_to_nearest(shape, [other for other in shapes if other is not shape]) for shape in shapes]
    return shapes, sum(nearest) / count


def ordered_pairs() -> list[tuple[str, str]]:
    """All 120 (colour, category) pairs in a fixed mixed order: every twelve hold each category once and every colour.

    Any prefix is therefore a fair small benchmark.
    """
    order = torch.Generator().manual_seed(0)
    pairs: list[tuple[str, str]] = []
    for turn in range(len(COLOUR_NAMES)):
        for category in torch.randperm(len(CATEGORY_NAMES), generator=order).tolist():
            # 3 shares no factor with the 10 colours, so each category meets each of them once in ten turns.
            pairs.append((COLOUR_NAMES[(category + 3 * turn) % len(COLOUR_NAMES)], CATEGORY_NAMES[category]))
    return pairs


def prompts_of(which: str, limit: int | None = None) -> list[str]:
    """The captions of a set of pairs, "trained", "held-out" or "all", in the mixed order; at most `limit`."""
    members = {"trained": trained_pairs(), "held-out": held_out_pairs(), "all": ordered_pairs()}[which]
    return [caption(*pair) for pair in ordered_pairs() if pair in members][:limit]


def is_held_out(prompt: str) -> bool:
    """Whether the bundled models never saw the prompt's pair."""
    return prompt in {caption(*pair) for pair in held_out_pairs()}
