"""What can be rendered: the form of the inputs, checked on every call, and their values, checked by backends."""

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.types import Cameras, Gaussians, check_shapes


def check_form(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3]
    screen_offsets: Tensor | None,  # [C, N, 2] px
) -> None:
    """Raise InvalidInput unless shapes match and all tensors have one dtype and device. Reads no values."""
    shapes = {
        "means": (gaussians.means, "N 3"),
        "world_to_camera": (cameras.world_to_camera, "C 4 4"),
        "background": (background, "C 3"),
    }
    if screen_offsets is not None:
        shapes["screen_offsets"] = (screen_offsets, "C N 2")
    check_shapes(**shapes)
    if len(cameras) == 0:
        raise InvalidInput("no cameras, expected at least one.")
    like = gaussians.means
    if like.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(f"means: dtype {like.dtype}, expected torch.float32 or torch.float64.")
    for name, tensor in _named(gaussians, cameras, background, screen_offsets).items():
        if tensor.dtype != like.dtype or tensor.device != like.device:
            raise InvalidInput(
                f"{name}: {tensor.dtype} on {tensor.device}, expected {like.dtype} on {like.device} as for means."
            )


def check_values(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3]
    screen_offsets: Tensor | None,  # [C, N, 2] px
) -> None:
    """Raise InvalidInput, naming the tensor, for values that cannot be rendered: not finite, or out of range."""
    ranges = {"scales": (0.0, torch.inf), "opacities": (0.0, 1.0)}
    for name, tensor in _named(gaussians, cameras, background, screen_offsets).items():
        _check_range(name, tensor.detach(), *ranges.get(name, (-torch.inf, torch.inf)))
    if bool((gaussians.scales == 0).any()):
        raise InvalidInput("scales: a value of 0, expected values above 0.")
    if not bool(gaussians.quats.any(dim=-1).all()):
        raise InvalidInput("quats: a quaternion of length 0, expected any other length.")
    if not bool((cameras.intrinsics.diagonal(dim1=-2, dim2=-1)[:, :2] > 0).all()):
        raise InvalidInput("intrinsics: a focal length of 0 px or less, expected more than 0.")


def _named(
    gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None
) -> dict[str, Tensor]:
    named = gaussians.tensors() | {"world_to_camera": cameras.world_to_camera, "intrinsics": cameras.intrinsics}
    named |= {"background": background}
    return named if screen_offsets is None else named | {"screen_offsets": screen_offsets}


def _check_range(name: str, tensor: Tensor, least: float, greatest: float) -> None:
    if tensor.numel() == 0:
        return
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        row = int((~finite).reshape(len(tensor), -1).any(dim=1).nonzero()[0])
        raise InvalidInput(f"{name}: row {row} holds a value that is not finite.")
    low, high = (bound.item() for bound in torch.aminmax(tensor))
    if low < least or high > greatest:
        raise InvalidInput(f"{name}: values from {low:g} to {high:g}, expected {least:g} to {greatest:g}.")
