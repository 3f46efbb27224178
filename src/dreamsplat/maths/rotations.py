"""Rotations, covariances and camera poses: pure functions of tensors."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.errors import InvalidInput
from dreamsplat.types import check_shapes


def rotation_from_quats(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z), normalised first (with gradient)."""
    if quats.ndim == 0 or quats.shape[-1] != 4:
        raise InvalidInput(f"quats: shape {list(quats.shape)}, expected [..., 4] as (w, x, y, z).")
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quats_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z) of proper rotations [..., 3, 3]; w >= 0 wherever w is not tiny."""
    a, b, c, d, e, f, g, h, i = rotation.flatten(-2).unbind(-1)
    # 4 q q^T: each row is a multiple of q, and the one with the largest diagonal element is the most accurate.
    rows = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = products.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None]
    return normalize(products.take_along_dim(best, dim=-2)[..., 0, :], dim=-1)


def covariances(
    scales: Tensor,  # [N, 3] standard deviations along the own axes
    quats: Tensor,  # [N, 4] own axes to world, any non-zero length
) -> Tensor:
    """World covariances [N, 3, 3] = R diag(scales^2) R^T. Kerbl et al. 2023, eq. 6."""
    check_shapes(scales=(scales, "N 3"), quats=(quats, "N 4"))
    half = rotation_from_quats(quats) * scales[:, None, :]  # [N, 3, 3]
    return half @ half.mT


def look_at(
    eye: Tensor,  # [C, 3] camera centres, world
    target: Tensor | None = None,  # [3] world point in the middle of the image; the origin
    up: Tensor | None = None,  # [3] or [C, 3] direction that points up in the image; +z
) -> Tensor:
    """Poses `world_to_camera` [C, 4, 4] (OpenCV axes) of cameras at `eye` that look at `target`.

    Where the view is along `up`, its image-right is the world axis most across the view: +x when looking straight down
    or up. That continues azimuth 0; callers that know the azimuth pass an `up` across the view instead.

    Raises:
        InvalidInput: if a camera sits on its target.
    """
    target = eye.new_zeros(3) if target is None else target
    up = eye.new_tensor([0.0, 0.0, 1.0]) if up is None else up
    check_shapes(eye=(eye, "C 3"), target=(target, "3"), up=(up, "C 3" if up.ndim == 2 else "3"))
    offset = target - eye  # [C, 3]
    if bool((offset.norm(dim=-1) == 0).any()):
        raise InvalidInput("look_at: a camera sits on its target, so it has no direction; move eye or target.")
    forward = normalize(offset, dim=-1)
    across = torch.linalg.cross(forward, normalize(up, dim=-1).expand_as(forward))
    axis = torch.eye(3, dtype=eye.dtype, device=eye.device)[forward.abs().argmin(dim=-1)]  # [C, 3]
    axis = axis - (axis * forward).sum(-1, keepdim=True) * forward
    right = normalize(torch.where(across.norm(dim=-1, keepdim=True) > 1e-6, across, axis), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)  # [C, 3, 3]
    pose = torch.eye(4, dtype=eye.dtype, device=eye.device).repeat(eye.shape[0], 1, 1)
    pose[:, :3, :3] = rotation
    pose[:, :3, 3] = -(rotation @ eye[:, :, None])[:, :, 0]
    return pose


def wrap_degrees(angle_deg: Tensor) -> Tensor:
    """The same angles, of any shape, in [-180, 180)."""
    wrapped = torch.remainder(angle_deg + 180, 360) - 180
    # In floating point the remainder of a tiny negative number rounds up to 360 itself.
    return torch.where(wrapped >= 180, wrapped - 360, wrapped)
