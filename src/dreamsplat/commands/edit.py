"""`dreamsplat edit`: join, crop, clean, recolour, thin out and place assets, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_input, check_output
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_range

if TYPE_CHECKING:
    from dreamsplat.types import Gaussians

_Vector = tuple[float, float, float]
_named = tyro.conf.arg


@dataclass(frozen=True)
class Edit:
    """Join assets and change them. Whatever order the flags have, the work is done in the order of this list."""

    files: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="IN [IN ...] OUT", help_behavior_hint="(required)")]
    ]
    """One or more files of Gaussians to join, and last the file to write; endings choose the formats."""
    crop_box: Annotated[tuple[float, float, float, float, float, float] | None, _named(metavar="X Y Z X Y Z")] = None
    """Keep what lies in a box: x, y, z of its lower corner, then of its upper one, world units."""
    crop_ball: Annotated[tuple[float, float, float, float] | None, _named(metavar="X Y Z RADIUS")] = None
    """Keep what lies in a ball: x, y, z of its centre, and its radius, world units."""
    min_opacity: float = 0.0
    """Drop Gaussians of less opacity, 0 to 1. Those below 0.05 are hardly seen."""
    min_scale: float = 0.0
    """Drop Gaussians whose longest standard deviation is shorter, world units."""
    max_scale: Annotated[float | None, _named(metavar="FLOAT")] = None
    """Drop Gaussians whose longest standard deviation is longer, world units."""
    drop_oversized: bool = False
    """Drop Gaussians longer than a fifth of the object."""
    drop_floaters: bool = False
    """Drop what lies apart from the object: clumps with less than a fiftieth of the opacity of the largest one."""
    drop_hidden: bool = False
    """Drop Gaussians that nobody sees from outside."""
    tint: Annotated[_Vector, _named(metavar="RED GREEN BLUE")] = (1.0, 1.0, 1.0)
    """Multiply red, green and blue by these."""
    saturation: float = 1.0
    """Strength of the colours: 0 is grey, 1 as they are, 2 twice as strong."""
    paint: Annotated[_Vector | None, _named(metavar="RED GREEN BLUE")] = None
    """Give everything one colour: red, green and blue, each 0 to 1."""
    sh_degree: Literal[0, 1, 2, 3] | None = None
    """Degree of the spherical harmonics: higher ones are dropped, missing ones are filled with zeros."""
    max_gaussians: Annotated[int | None, _named(metavar="INT")] = None
    """Merge neighbours that look alike until at most this many are left."""
    turn_deg: float = 0.0
    """Turn the object about --turn-axis, degrees, counter-clockwise when the axis points at you."""
    turn_axis: Annotated[_Vector, _named(metavar="X Y Z")] = (0.0, 0.0, 1.0)
    """The line through the origin that --turn-deg turns about; z points up."""
    scale: float = 1.0
    """Multiply all lengths by this, about the origin."""
    centre: bool = False
    """Move the middle of the object to the origin."""
    ground: bool = False
    """Stand the object on the plane z = 0."""
    move: Annotated[_Vector, _named(metavar="X Y Z")] = (0.0, 0.0, 0.0)
    """Add this to all positions, world units."""
    strict: bool = False
    """Refuse a file with Gaussians that cannot be drawn, instead of dropping them."""
    overwrite: bool = False
    """Replace a file of that name, which may be one of the input files."""

    def __post_init__(self) -> None:
        """Refuse what can be refused before a file is read."""
        if len(self.files) < 2:
            raise InvalidInput("missing: IN or OUT.", advice="Name at least one file to read, and last one to write.")
        check_range("min_opacity", self.min_opacity, 0, 1)
        check_range("min_scale", self.min_scale, 0, math.inf)
        check_range("max_scale", 1 if self.max_scale is None else self.max_scale, 0, math.inf, above=True)
        check_range("saturation", self.saturation, 0, math.inf)
        check_range("max_gaussians", 1 if self.max_gaussians is None else self.max_gaussians, 1, math.inf)
        check_range("scale", self.scale, 0, 1e6, above=True)
        self._check_vectors()
        for path in self.files[:-1]:
            check_input(path)
        check_output(self.files[-1], self.overwrite)

    def _check_vectors(self) -> None:
        """Refuse numbers with which nothing, or nothing that can be drawn, would be left."""
        limits = {"tint": (0, 1e6), "paint": (0, 1), "move": (-1e30, 1e30), "turn_axis": (-1e30, 1e30)}
        for setting, (least, most) in limits.items():
            for number in getattr(self, setting) or ():
                check_range(setting, number, least, most)
        check_range("turn_deg", self.turn_deg, -1e6, 1e6)
        if not any(self.turn_axis):
            raise InvalidInput("0 0 0, expected a direction.", setting="turn_axis")
        if self.crop_ball is not None:
            check_range("crop_ball", self.crop_ball[3], 0, math.inf, above=True)
        if (box := self.crop_box) is not None and not all(low < high for low, high in zip(box, box[3:], strict=False)):
            raise InvalidInput(
                f"{' '.join(f'{number:g}' for number in box)}, expected the lower corner first.", setting="crop_box"
            )


def edit(arguments: Sequence[str]) -> int:
    """`dreamsplat edit`: write the changed asset, and print what became of it."""
    args = parse_flags(Edit, arguments, "edit", config=(tyro.conf.FlagCreatePairsOff,))
    from dreamsplat.assets import centred, join
    from dreamsplat.formats import in_float32, read, save

    *given, out = args.files
    whole = join(*(read(path, strict=args.strict) for path in given))
    kept = _kept(whole, args)
    # Before anything else, in double precision: files with map coordinates keep their detail.
    kept = in_float32(given[0], centred(kept) if args.centre else kept)
    changed = _placed(_looking(kept, args), args)
    save(changed, out)
    print(f"{out}: {len(changed):,} of {len(whole):,} Gaussians")
    return 0


def _kept(asset: Gaussians, args: Edit) -> Gaussians:
    """What is left after cropping and dropping."""
    from dreamsplat.assets import in_ball, in_box, is_floater, is_hidden, is_oversized, rows

    if args.crop_box is not None:
        asset = in_box(asset, args.crop_box[:3], args.crop_box[3:])
    if args.crop_ball is not None:
        asset = in_ball(asset, args.crop_ball[3], args.crop_ball[:3])
    longest, most = asset.scales.amax(dim=1), math.inf if args.max_scale is None else args.max_scale
    asset = rows(asset, (asset.opacities >= args.min_opacity) & (longest >= args.min_scale) & (longest <= most))
    for asked, found in (
        (args.drop_oversized, is_oversized), (args.drop_floaters, is_floater), (args.drop_hidden, is_hidden),
    ):  # fmt: skip
        if asked and len(asset):
            asset = rows(asset, ~found(asset))
    if len(asset) == 0:
        raise InvalidInput("no Gaussian is left, so nothing was written.", advice="Crop or drop less.")
    return asset


def _looking(asset: Gaussians, args: Edit) -> Gaussians:
    """The same in other colours, of another degree, and with fewer Gaussians."""
    import torch

    from dreamsplat.assets import merge, painted, recoloured, with_sh_degree

    if args.saturation != 1 or args.tint != (1.0, 1.0, 1.0):
        luma = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)  # Rec. 601, of display colours.
        mixed = args.saturation * torch.eye(3) + (1 - args.saturation) * luma
        asset = recoloured(asset, torch.diag(torch.tensor(args.tint)) @ mixed)
    if args.paint is not None:
        asset = painted(asset, args.paint)
    if args.sh_degree is not None:
        asset = with_sh_degree(asset, args.sh_degree)
    return asset if args.max_gaussians is None else merge(asset, args.max_gaussians)


def _placed(asset: Gaussians, args: Edit) -> Gaussians:
    """The same turned, scaled and moved."""
    from dreamsplat.assets import centred, extent, moved, scaled, turned

    if args.turn_deg:
        asset = turned(asset, args.turn_deg, args.turn_axis)
    if args.scale != 1:
        asset = scaled(asset, args.scale)
    if args.centre:  # Turning and scaling may have moved it.
        asset = centred(asset)
    if args.ground:
        low, _ = extent(asset)
        asset = moved(asset, (0.0, 0.0, -float(low[2])))
    return moved(asset, args.move) if any(args.move) else asset
