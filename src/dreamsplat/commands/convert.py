"""`dreamsplat convert`: write an asset as another kind of file, and make it smaller or stand it up on the way."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dreamsplat import registry
from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_input, check_output, ending
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.kinds import EXPORTS
from dreamsplat.mesh.companions import obj_companions
from dreamsplat.mesh.settings import MeshSettings

if TYPE_CHECKING:
    from dreamsplat.types import Gaussians


_MESHES = EXPORTS[1:]
_MESH = MeshSettings()
UpAxis = Literal["z", "y", "-y", "-z"]
_FIXED_AXES = (".glb", ".html", ".mesh.glb", ".obj")  # Their writers turn the asset as the format demands.


@dataclass(frozen=True)
class Convert:
    """Write an asset as another kind of file, and make it smaller on the way."""

    asset: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="IN")]]
    """The file to read: Gaussians."""
    out: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="OUT")]]
    """The file to write; the ending of its name chooses the format."""
    max_gaussians: int | None = None
    """Merge neighbours that look alike until at most this many Gaussians are left."""
    max_mb: float | None = None
    """Merge neighbours that look alike until the file has at most this size, megabytes (10^6 bytes)."""
    up_axis: UpAxis = "z"
    """The axis that points up in the file written. Many viewers expect -y."""
    from_up_axis: UpAxis = "z"
    """The axis that points up in the file read: z in files made by dreamsplat, often -y in scans by other programs, -z
    in an .spz by splat-transform 2. Not needed for a .glb, whose standard fixes it."""
    centre: bool = False
    """Move the middle of the object to the origin, in double precision: for files with map coordinates."""
    strict: bool = False
    """Refuse a file with Gaussians that cannot be drawn, instead of dropping them."""
    sh_degree: Literal[0, 1, 2, 3] | None = None
    """Degree of the spherical harmonics, which make colours change with direction: higher degrees are dropped, missing
    ones are filled with zeros. Some engines read only .ply files of degree 3."""
    mesh: Annotated[MeshSettings, tyro.conf.arg(name="")] = _MESH
    """How a mesh is made: OUT ends in .mesh.glb, .obj or .stl."""
    overwrite: bool = False
    """Replace a file of that name, and those that belong to it: the .mtl and the .png of an .obj with a texture."""

    def __post_init__(self) -> None:
        """Refuse what can be refused before the asset is read."""
        if self.max_gaussians is not None and self.max_gaussians < 1:
            raise InvalidInput(f"{self.max_gaussians}, expected at least 1.", setting="max_gaussians")
        if self.max_mb is not None and not 0 < self.max_mb < math.inf:
            raise InvalidInput(f"{self.max_mb}, expected a number of megabytes above 0.", setting="max_mb")
        check_input(self.asset)
        kind = check_output(self.out, self.overwrite, _endings())
        if self.out.exists() and self.out.samefile(self.asset):
            raise FileProblem(f"{self.out}: is the input file.", advice="Choose another name for the output.")
        if self.max_mb is not None and kind in _MESHES:
            raise InvalidInput("cannot limit the size of a mesh.", setting="max_mb", advice="Omit --max-mb.")
        if self.mesh != _MESH and kind not in _MESHES:
            advice = "Omit --triangles, --texture, --surface.* and --bake.*."
            raise InvalidInput(f"{kind} files hold no mesh.", advice=advice)
        if self.mesh.texture is not None and kind == ".stl":
            raise InvalidInput(".stl files hold no colours.", setting="texture", advice="Omit --texture.")
        if self.mesh.texture is not None and kind == ".obj":
            for beside in obj_companions(self.out):
                check_output(beside, self.overwrite, (beside.suffix,))
        if self.up_axis != "z" and kind in _FIXED_AXES:
            raise InvalidInput(f"{kind} files always have +y up.", setting="up_axis", advice="Omit --up-axis.")
        if self.from_up_axis != "z" and self.asset.suffix.lower() == ".glb":
            raise InvalidInput(".glb files always have +y up.", setting="from_up_axis", advice="Omit --from-up-axis.")


def convert(arguments: Sequence[str]) -> int:
    """`dreamsplat convert`: write an asset as another kind of file, and print its path, content and size."""
    args = parse_flags(Convert, arguments, "convert", config=(tyro.conf.FlagCreatePairsOff,))
    from dreamsplat.assets import centred, picture_psnr, with_sh_degree
    from dreamsplat.formats import in_float32, read

    asset = read(args.asset, strict=args.strict)
    asset = in_float32(args.asset, centred(asset) if args.centre else asset)
    asset = _stood_up(asset, args.from_up_axis, back=True)
    if args.sh_degree is not None:
        asset = with_sh_degree(asset, args.sh_degree)
    fewer = _fewer(asset, args)
    content = _write(fewer, args.out, args.up_axis, args.mesh)
    summary = f"{args.out}: {content}, {args.out.stat().st_size / 1e6:.3g} MB"
    if args.mesh.texture is not None and args.out.suffix.lower() == ".obj":
        summary += f", with {' and '.join(path.name for path in obj_companions(args.out))}"
    if len(fewer) < len(asset):
        summary += f" from {len(asset):,}, PSNR of the pictures {picture_psnr(asset, fewer):.1f} dB"
    print(summary)
    return 0


def _fewer(asset: Gaussians, args: Convert) -> Gaussians:
    """The asset within both limits."""
    from dreamsplat.assets import merge, merge_to_size

    if args.max_gaussians is not None:
        asset = merge(asset, args.max_gaussians)
    if args.max_mb is None:
        return asset
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / f"asset{ending(args.out, _endings())}"

        def size_of(gaussians: Gaussians) -> int:
            _write(gaussians, trial, args.up_axis)
            return trial.stat().st_size

        return merge_to_size(asset, int(args.max_mb * 1e6), size_of)


def _write(gaussians: Gaussians, path: Path, up_axis: str, mesh: MeshSettings = _MESH) -> str:
    """Write the file, and say what is in it."""
    from dreamsplat.formats import save

    gaussians, kind = _stood_up(gaussians, up_axis), ending(path, _endings())
    if kind in _MESHES:
        return _write_mesh(gaussians, path, mesh)
    if kind == ".points.ply":
        return _write_points(gaussians, path)
    save(gaussians, path)
    return f"{len(gaussians):,} Gaussians"


def _write_mesh(gaussians: Gaussians, path: Path, settings: MeshSettings) -> str:
    """Write a closed mesh with a colour at each vertex."""
    from dreamsplat.mesh import MESH_WRITERS, mesh_of

    mesh = mesh_of(gaussians, settings)
    MESH_WRITERS[path.suffix.lower()](mesh, path)
    return f"{len(mesh.faces):,} triangles"


def _write_points(gaussians: Gaussians, path: Path) -> str:
    """Write the centres of all Gaussians that are not faint, in their mean colour."""
    from dreamsplat.assets import solid_points
    from dreamsplat.formats.ply import save_points

    cloud = solid_points(gaussians)
    save_points(cloud, path)
    return f"{len(cloud):,} points"


def _stood_up(gaussians: Gaussians, up_axis: str, back: bool = False) -> Gaussians:
    """The Gaussians with z turned to another axis, or back."""
    import torch

    from dreamsplat.assets import Z_UP_TO_Y_DOWN, Z_UP_TO_Y_UP, rotated

    if up_axis == "z":
        return gaussians
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    turn = {"y": Z_UP_TO_Y_UP, "-y": Z_UP_TO_Y_DOWN, "-z": half_turn}[up_axis]
    return rotated(gaussians, turn.T if back else turn)


def _endings() -> tuple[str, ...]:
    return (*registry.names("formats"), *EXPORTS)
