"""A radiance field as Gaussians, which every viewer opens: points on its surface, fitted to its pictures.

A Gaussian for each voxel would show the soft field poorly (17 to 21 dB), so they are optimised as those of 3DGS are
(Kerbl et al. 2023), with pictures of the field from all around as the truth.
"""

import logging
import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.assets.draw import render_asset
from dreamsplat.assets.gaussians import rows
from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.method.cameras import make_views
from dreamsplat.method.lift import to_gaussians
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians, PointCloud, Rendering

_ELEVATIONS_DEG, _AZIMUTHS, _SIZE, _FOV_Y_DEG = (-60.0, -20.0, 20.0, 60.0), 12, 128, 40.0
_STEPS, _VIEWS, _MOST = 150, 4, 20_000
_RATES = {"means": 2e-3, "log_scales": 0.02, "quats": 0.01, "logit_opacities": 0.05, "sh": 0.02}
_EMPTY = Gaussians(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 1, 3))
_log = logging.getLogger(__name__)


def fitted_gaussians(field: RadianceField) -> Gaussians:
    """At most 20,000 Gaussians that look like a field; the same for the same field. None for an empty one."""
    cameras = _around(field)
    truth = [render_asset(field, cameras.rows(view[None]), (0, 0, 0)) for view in torch.arange(len(cameras))]
    cloud = _surface(truth, cameras, 0.5 * field.voxel)
    if len(cloud) == 0:
        return _EMPTY.to(field.grid)
    leaves, generator = _leaves(to_gaussians(cloud, opacity=0.5)), torch.Generator().manual_seed(0)
    adam = torch.optim.Adam([{"params": [leaf], "lr": _RATES[name]} for name, leaf in leaves.items()], eps=1e-15)
    for step in range(_STEPS):
        for group, rate in zip(adam.param_groups, _RATES.values(), strict=True):
            group["lr"] = rate * (1 - 0.9 * step / _STEPS)
        shown = torch.randperm(len(cameras), generator=generator)[:_VIEWS]
        off = _off(render(_gaussians(leaves), cameras.rows(shown)), truth, shown)
        adam.zero_grad()
        off.backward()
        adam.step()
    fitted = _gaussians(leaves).detach()
    fitted = rows(fitted, fitted.opacities > 1 / 255)
    with torch.no_grad():
        views = torch.arange(len(cameras))[:, None]
        off = torch.stack([_off(render(fitted, cameras.rows(view)), truth, view) for view in views]).mean()
    _log.info("%s Gaussians show the field to %.1f dB.", f"{len(fitted):,}", -10 * math.log10(float(off)))
    return fitted


def _around(field: RadianceField) -> Cameras:
    """48 cameras that each see all of the field."""
    elevation = torch.tensor(_ELEVATIONS_DEG).repeat_interleave(_AZIMUTHS)
    azimuth = 360 / _AZIMUTHS * (torch.arange(len(elevation)) + elevation / 80)
    same = torch.ones_like(elevation)
    distance = max(field.reach, field.voxel) / math.sin(math.radians(_FOV_Y_DEG / 2))
    views = make_views(azimuth, elevation, distance * same, _FOV_Y_DEG * same, width=_SIZE, height=_SIZE)
    return views.cameras.to(field.grid)


def _surface(truth: list[Rendering], cameras: Cameras, spacing: float) -> PointCloud:
    """Points where pixels are at least half opaque, at the mean depth of their light, thinned to a spacing."""
    xyz, rgb = [], []
    for view, seen in enumerate(truth):
        row, column = (seen.alpha[0] > 0.5).nonzero(as_tuple=True)
        alpha = seen.alpha[0, row, column][:, None]
        pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], dim=1).to(alpha)
        z = seen.depth[0, row, column][:, None] / alpha
        pose = cameras.world_to_camera[view]
        camera = z * (pixel @ torch.linalg.inv(cameras.intrinsics[view]).T)
        xyz.append((camera - pose[:3, 3]) @ pose[:3, :3])
        rgb.append(seen.rgb[0, row, column] / alpha)
    places, colours = torch.cat(xyz), torch.cat(rgb)
    while True:
        cell = (places / spacing).round().long()
        _, group = cell.unique(dim=0, return_inverse=True)
        first = torch.full((int(group.max()) + 1 if len(group) else 0,), len(group), device=group.device)
        first = first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
        if len(first) <= _MOST:
            return PointCloud(places[first], colours[first].clamp(0, 1))
        spacing *= 1.1


def _leaves(start: Gaussians) -> dict[str, Tensor]:
    raw = {
        "means": start.means, "log_scales": start.scales.log(), "quats": start.quats,
        "logit_opacities": start.opacities.logit(), "sh": start.sh,
    }  # fmt: skip
    return {name: value.detach().clone().requires_grad_() for name, value in raw.items()}


def _gaussians(leaves: dict[str, Tensor]) -> Gaussians:
    return Gaussians(
        leaves["means"], leaves["log_scales"].exp(), normalize(leaves["quats"], dim=-1),
        leaves["logit_opacities"].sigmoid(), leaves["sh"],
    )  # fmt: skip


def _off(
    image: Rendering,
    truth: list[Rendering],
    views: Tensor,  # [V]
) -> Tensor:
    """The mean squared error [] of colour and alpha."""
    rgb, alpha = (torch.cat([getattr(truth[view], name) for view in views.tolist()]) for name in ("rgb", "alpha"))
    return ((image.rgb - rgb).square().sum(dim=-1) + (image.alpha - alpha).square()).mean() / 4
