"""The CPU backend: the compiled rasteriser of cpu.cpp as a differentiable torch function, loaded with ctypes.

The library computes in float32, whatever the dtype of its inputs, on `thread_count()` threads and without the GIL. The
number of threads does not change a single bit of its results.
"""

import ctypes
import functools
import os
import sys
from ctypes import POINTER, byref, c_int, c_int32, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dreamsplat.errors import InvalidInput
from dreamsplat.render.checks import check_values
from dreamsplat.types import Cameras, Gaussians, Rendering

_DONE, _INVALID_VALUES = 0, 2  # mirrors Outcome in cpu.cpp
_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"


def available() -> tuple[bool, str]:
    """Whether the compiled library loads, and which one, or why not."""
    try:
        return True, f"compiled library {Path(_library()._name).name}, {thread_count()} threads"
    except OSError as error:
        return False, str(error)


def builds() -> list[Path]:
    """The builds of the library that this processor can run, the fastest last; none if it is not compiled.

    Raises:
        OSError: if a library exists but does not load.
    """
    baseline = Path(__file__).with_name("_cpu_baseline" + _SUFFIX)
    if baseline.exists():
        return [baseline]
    levels = [path for n in (2, 3, 4) if (path := baseline.with_name(f"_cpu_x86_64_v{n}{_SUFFIX}")).exists()]
    # The oldest runs on any processor, so it can be asked.
    return [path for path in levels if int(path.stem[-1]) <= load(levels[0]).dreamsplat_x86_level()]


def thread_count() -> int:
    """Threads per call: OMP_NUM_THREADS, as for torch, or the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3] display colours
    screen_offsets: Tensor | None,  # [C, N, 2] px, added to the projected centres
) -> Rendering:
    """Render N Gaussians from C cameras, with gradients to the Gaussians, background and offsets; cameras get none.

    Raises:
        InvalidInput: for values that cannot be rendered.
    """
    dtype = gaussians.means.dtype
    inputs = (
        gaussians.means, gaussians.scales, gaussians.quats, gaussians.opacities, gaussians.sh, background,
        screen_offsets, cameras.world_to_camera.detach(), cameras.intrinsics.detach(),
    )  # fmt: skip
    dense = [_dense(tensor) for tensor in inputs]
    try:
        outputs = _Rasterise.apply(cameras.width, cameras.height, *dense)
    except _InvalidValues:
        check_values(gaussians, cameras, background, screen_offsets)  # Says which one.
        advice = "Scale the object."
        raise InvalidInput("a value exceeds float32, in which the CPU renderer computes.", advice=advice) from None
    rgb, alpha, depth, radii_px = outputs if dtype is torch.float32 else (output.to(dtype) for output in outputs)
    return Rendering(rgb=rgb, alpha=alpha, depth=depth, radii_px=radii_px)


class _Scene(ctypes.Structure):
    """Mirror of `Scene` in cpu_frame.h."""

    _fields_ = [
        *((name, c_int32) for name in ("gaussians", "cameras", "width", "height", "coefficients")),
        *((name, c_void_p) for name in (
            "means", "scales", "quats", "opacities", "sh", "world_to_camera", "intrinsics", "background",
            "screen_offsets",
        )),
    ]  # fmt: skip


class _OutputGradients(ctypes.Structure):
    """Mirror of `OutputGradients` in cpu_frame.h."""

    _fields_ = [(name, c_void_p) for name in ("rgb", "alpha", "depth")]


class _InputGradients(ctypes.Structure):
    """Mirror of `InputGradients` in cpu_frame.h."""

    _fields_ = [
        (name, c_void_p) for name in ("means", "scales", "quats", "opacities", "sh", "background", "screen_offsets")
    ]


class _InvalidValues(Exception):
    """The library refused the values of its inputs."""


class _Frame:
    """Owns what a forward pass keeps in the library for the backward pass."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.address = c_void_p()

    def __del__(self) -> None:
        self.library.dreamsplat_release(self.address)


class _Rasterise(torch.autograd.Function):
    """Dense float32 CPU tensors in, (rgb, alpha, depth, radii_px) out."""

    @staticmethod
    def forward(ctx: Any, width: int, height: int, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        scene = _scene(width, height, inputs)
        count, cameras = scene.gaussians, scene.cameras
        rgb, alpha, depth, radii_px = (
            torch.empty(shape, dtype=torch.float32, device="cpu") for shape in  # whatever torch's defaults are
            ((cameras, height, width, 3), (cameras, height, width), (cameras, height, width), (cameras, count))
        )  # fmt: skip
        outputs = (rgb, alpha, depth, radii_px)
        pointers = (output.data_ptr() for output in outputs)
        ctx.frame = frame = _Frame(_library())
        outcome = frame.library.dreamsplat_forward(byref(scene), *pointers, thread_count(), byref(frame.address))
        if outcome == _INVALID_VALUES:
            raise _InvalidValues
        if outcome != _DONE:
            raise MemoryError("The CPU rasteriser ran out of memory. Render fewer views or pixels at once.")
        ctx.size = (width, height)
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(radii_px)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable  # It is untyped, so that pyright sees another signature.
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        width, height = ctx.size
        outputs = [_dense(gradient) for gradient in gradients[:3]]  # Kept alive until the call returns.
        always, optional = inputs[:5], inputs[5:7]
        results = [torch.empty_like(tensor) for tensor in always]
        results += [
            torch.empty_like(tensor) if needed and tensor is not None else None
            for tensor, needed in zip(optional, ctx.needs_input_grad[7:9], strict=True)
        ]
        outcome = ctx.frame.library.dreamsplat_backward(
            ctx.frame.address, byref(_scene(width, height, inputs)), byref(_OutputGradients(*map(_pointer, outputs))),
            byref(_InputGradients(*map(_pointer, results))), thread_count(),
        )  # fmt: skip
        if outcome != _DONE:
            raise MemoryError("The CPU rasteriser ran out of memory in its backward pass. Render fewer views at once.")
        return (None, None, *results, None, None)


def _scene(width: int, height: int, inputs: tuple[Tensor | None, ...]) -> _Scene:
    means, scales, quats, opacities, sh, background, screen_offsets, world_to_camera, intrinsics = inputs
    assert means is not None and sh is not None and background is not None
    tensors = (means, scales, quats, opacities, sh, world_to_camera, intrinsics, background, screen_offsets)
    return _Scene(means.shape[0], background.shape[0], width, height, sh.shape[1], *map(_pointer, tensors))


def _dense(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or (tensor.dtype is torch.float32 and tensor.is_contiguous()):
        return tensor  # The usual case; in small scenes even a call that does nothing costs time.
    return tensor.to(torch.float32).contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def _library() -> ctypes.CDLL:
    """The fastest build; raises OSError if there is none."""
    paths = builds()
    if not paths:
        raise OSError(
            "the CPU rasteriser is not compiled; in a source tree, run: cmake -S . -B build && cmake --build build && "
            "cmake --install build --prefix src"
        )
    return load(paths[-1])


@functools.cache
def load(path: Path) -> ctypes.CDLL:
    """Load one build of the library and declare its functions."""
    library = ctypes.CDLL(str(path))
    library.dreamsplat_x86_level.restype = c_int
    library.dreamsplat_forward.restype = c_int
    library.dreamsplat_forward.argtypes = [POINTER(_Scene), *[c_void_p] * 4, c_int, POINTER(c_void_p)]
    library.dreamsplat_backward.restype = c_int
    library.dreamsplat_backward.argtypes = [
        c_void_p, POINTER(_Scene), POINTER(_OutputGradients), POINTER(_InputGradients), c_int
    ]  # fmt: skip
    library.dreamsplat_release.restype = None
    library.dreamsplat_release.argtypes = [c_void_p]
    return library
