"""A small scene that shows whether a renderer works on this machine: images and gradients against the specification."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from math import inf, isnan

import torch
from torch import Tensor

from dreamsplat.method.cameras import orbit
from dreamsplat.render import reference
from dreamsplat.types import Cameras, Gaussians, Rendering

Renderer = Callable[[Gaussians, Cameras, Tensor, Tensor], Rendering]
"""Gaussians, cameras, background [C, 3], screen offsets [C, N, 2] px -> images."""


def scene(
    count: int,
    sh_degree: int = 1,
    *,
    spread: float = 0.6,
    scale: tuple[float, float] = (0.02, 0.2),
    opacity: tuple[float, float] = (0.05, 0.95),
    sh: tuple[float, float] = (-2.0, 2.0),
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Gaussians:
    """Random Gaussians in a cube around the origin, for tests; everything is uniform.

    Args:
        count: how many.
        sh_degree: of their harmonics.
        spread: half of the cube's side, world units.
        scale: least and greatest standard deviation, world units.
        opacity: least and greatest opacity.
        sh: least and greatest coefficient; those of the default take some colours below 0, where they are cut off.
        dtype: float32 or float64, which have different values.
        generator: where they come from; seeded by `count` by default.
    """
    source = torch.Generator().manual_seed(count) if generator is None else generator

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=source, dtype=dtype)

    return Gaussians(
        means=uniform(-spread, spread, 3),
        scales=uniform(*scale, 3),
        quats=uniform(-1, 1, 4),
        opacities=uniform(*opacity),
        sh=uniform(*sh, (sh_degree + 1) ** 2, 3),
    )


def errors(renderer: Renderer, device: torch.device) -> dict[str, float]:
    """Relative errors, in the L2 norm, against reference.py in float64 on the CPU, by what was compared.

    60 Gaussians of degree 1 are seen by 2 cameras. Compared are the images, and the gradients of a weighted sum of them
    with respect to everything that has one.
    """
    with torch.inference_mode(False), torch.enable_grad():  # Whatever the caller happens to sit in.
        seen, cameras = scene(60, 1, spread=0.8, sh=(-0.5, 0.5)), orbit(2, size=32).cameras
        expected = _images_and_gradients(reference.render, seen.to(torch.float64), cameras.to(torch.float64))
        received = _images_and_gradients(renderer, seen.to(device), cameras.to(device))
    return {name: float((received[name] - e).norm() / e.norm()) for name, e in expected.items()}


def worst(found: dict[str, float]) -> tuple[str, float]:
    """The largest of some errors and what it was found in; NaN is larger than any number."""
    return max(found.items(), key=lambda item: inf if isnan(item[1]) else item[1])


def cuda_package(package: str, renderer: Renderer, tolerance: float, hint: str = "") -> tuple[bool, str]:
    """Whether a renderer of an optional package passes the self-test on this machine's CUDA device, or why not.

    Args:
        package: its name, and that of the extra that installs it.
        renderer: what it renders with.
        tolerance: the largest of `errors` that it may have.
        hint: what to add where it does not run.
    """
    if not torch.cuda.is_available():
        return False, "torch finds no CUDA device"
    install = f'pip install "dreamsplat[{package}]"'
    try:
        name = f"{package} {version(package)}"
    except PackageNotFoundError:
        return False, f"{package} is not installed: {install}"
    try:
        _, error = worst(errors(renderer, torch.device("cuda")))
    except Exception as problem:  # A broken build may fail in any way; then another backend must render.
        reason = next((line.strip() for line in str(problem).splitlines() if line.strip()), "no message")
        what = f"{type(problem).__name__}: {reason[:160]}{hint}"
        return False, f"{name} does not run: {what}; to reinstall: {install}"
    if not error <= tolerance:  # also where it is NaN
        return False, f"{name} fails the self-test, off by {error:.0e}; to reinstall: {install}"
    return True, f"{name}, CUDA"


def _images_and_gradients(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> dict[str, Tensor]:
    like = gaussians.means
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in gaussians.tensors().items()}
    background = like.new_tensor([[0.2, 0.4, 0.6], [0.0, 0.9, 0.1]]).requires_grad_()
    offsets = like.new_zeros(2, len(gaussians), 2).requires_grad_()
    image = renderer(Gaussians(**leaves), cameras, background, offsets)
    images = {"rgb": image.rgb, "alpha": image.alpha, "depth": image.depth}
    generator = torch.Generator().manual_seed(8)
    weighted = [(each * torch.rand(each.shape, generator=generator).to(each)).sum() for each in images.values()]
    inputs = leaves | {"background": background, "screen offsets": offsets}
    gradients = torch.autograd.grad(torch.stack(weighted).sum(), list(inputs.values()))
    named = {f"gradient of {name}": gradient for name, gradient in zip(inputs, gradients, strict=True)}
    return {name: value.detach().cpu().double() for name, value in (images | named).items()}
