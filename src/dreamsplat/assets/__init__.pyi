from .cleaning import centred, extent, is_floater, is_hidden, is_oversized
from .draw import BACKDROP, Frames, draw, draw_points, render_asset
from .frame import Z_UP_TO_Y_DOWN, Z_UP_TO_Y_UP, rotated, turned
from .gaussians import (
    FAINT,
    bounds,
    colours_towards,
    in_ball,
    in_box,
    join,
    moved,
    painted,
    positions,
    recoloured,
    rows,
    scaled,
    solid_points,
    with_sh_degree,
)
from .merging import merge, merge_to_size
from .pruning import ball_around, importance, picture_psnr, prune, visibility
from .radiance_field import RadianceField
from .sheet import contact_sheet

__all__ = [
    "BACKDROP",
    "FAINT",
    "Z_UP_TO_Y_DOWN",
    "Z_UP_TO_Y_UP",
    "Frames",
    "RadianceField",
    "ball_around",
    "bounds",
    "centred",
    "colours_towards",
    "contact_sheet",
    "draw",
    "draw_points",
    "extent",
    "importance",
    "in_ball",
    "in_box",
    "is_floater",
    "is_hidden",
    "is_oversized",
    "join",
    "merge",
    "merge_to_size",
    "moved",
    "painted",
    "picture_psnr",
    "positions",
    "prune",
    "recoloured",
    "render_asset",
    "rotated",
    "rows",
    "scaled",
    "solid_points",
    "turned",
    "visibility",
    "with_sh_degree",
]
