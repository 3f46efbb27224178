"""`dreamsplat info`: what is in a file, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_input
from dreamsplat.errors import InvalidInput
from dreamsplat.files.kinds import kind_of

if TYPE_CHECKING:
    from torch import Tensor

    from dreamsplat.assets.radiance_field import RadianceField
    from dreamsplat.types import Gaussians


@dataclass(frozen=True)
class Info:
    """Say what is in files of Gaussians or points, and what is odd about them."""

    files: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(required)")]
    ]
    """Files of any format that `dreamsplat convert` reads."""
    strict: bool = False
    """Refuse a file with Gaussians that cannot be drawn, instead of dropping them."""

    def __post_init__(self) -> None:
        """Refuse what can be refused before a file is read."""
        if not self.files:
            raise InvalidInput("missing: FILE.", advice="Name at least one file.")
        for path in self.files:
            check_input(path)


def info(arguments: Sequence[str]) -> int:
    """`dreamsplat info`: print a few lines for each file."""
    args = parse_flags(Info, arguments, "info", config=(tyro.conf.FlagCreatePairsOff,))
    from dreamsplat.formats import read_asset
    from dreamsplat.types import Gaussians

    for path in args.files:
        asset = read_asset(path, strict=args.strict)
        kind = kind_of(path)
        size = 0 if path.is_dir() else path.stat().st_size
        words = "Gaussians" if kind is None else kind.words.removeprefix("a ").removeprefix("an ")
        print(f"{path}: {words}" + (f", {size / 1e6:.3g} MB" if size else ""))
        if isinstance(asset, Gaussians):
            lines = _cloud_lines(asset) if kind is not None and kind.holds == "points" else _lines(asset)
        else:
            lines = _field_lines(asset)
        for name, value in lines:
            print(f"  {name:<10} {value}")
    return 0


def _field_lines(field: RadianceField) -> Iterator[tuple[str, str]]:
    """What can be said of a radiance field."""
    shown = field.depth_of_voxels() >= 0
    yield "voxels", f"{field.size}, sides of {field.voxel:.4g}; {_share(shown)} not empty"
    yield (
        "places",
        f"a cube from {-field.extent:g} to {field.extent:g}; the object reaches {field.reach:.4g} from its middle",
    )
    yield "colour", f"mean {_vector(field.grid[1:, shown].sigmoid().mean(dim=1))}"


def _cloud_lines(asset: Gaussians) -> Iterator[tuple[str, str]]:
    """What can be said of the points that small balls stand for."""
    yield "points", f"{len(asset):,}, which become small balls when it is drawn or converted"
    yield "places", _places(asset.means)


def _lines(asset: Gaussians) -> Iterator[tuple[str, str]]:
    """What can be said, by name."""
    yield "Gaussians", f"{len(asset):,}, harmonics of degree {asset.sh_degree}, centres in {_dtype(asset.means)}"
    if len(asset) == 0:
        return
    from dreamsplat.assets import ball_around, colours_towards, is_floater, is_oversized

    yield "centres", _places(asset.means)
    middle, radius = ball_around(asset)
    yield "object", f"middle {_vector(middle)}, radius {radius:.4g}"
    longest = asset.scales.amax(dim=1)
    thinness = (asset.scales.amin(dim=1) / longest).median()
    yield "size", f"{_spread(longest)}; the thinnest side is {float(thinness):.2g} of the longest"
    yield "opacity", f"{_spread(asset.opacities)}; {_share(asset.opacities < 0.05)} below 0.05"
    rgb = colours_towards(asset, asset.means.new_tensor([0.0, 1.0, 0.0]))
    yield "colour", f"from the front {_vector(rgb.mean(dim=0))}; {_share((rgb > 1).any(dim=1))} beyond 1"
    turn = asset.means.std(dim=0)
    yield "frame", f"not named by the format; ours is z up, front -y. Longest axis: {'xyz'[int(turn.argmax())]}"
    for name, mask in (("floaters", is_floater(asset)), ("oversized", is_oversized(asset))):
        if mask.any():
            yield "odd", f"{int(mask.sum()):,} {name}: dreamsplat edit --drop-{name} removes them"


def _places(means: Tensor) -> str:
    low, high = means.aminmax(dim=0)
    return "  ".join(
        f"{axis} {a:.7g} to {b:.7g}" for axis, a, b in zip("xyz", low.tolist(), high.tolist(), strict=True)
    )


def _dtype(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _vector(values: Tensor) -> str:
    return " ".join(f"{value:.3g}" for value in values.tolist())


def _spread(values: Tensor) -> str:
    return f"median {float(values.median()):.3g}, {float(values.min()):.3g} to {float(values.max()):.3g}"


def _share(mask: Tensor) -> str:
    return f"{100 * float(mask.float().mean()):.3g} %"
