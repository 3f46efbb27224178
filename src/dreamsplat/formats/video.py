"""Turntable films: MP4 through the optional package imageio-ffmpeg; animated WebP or GIF without it."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.maths.srgb import to_uint8

_WEBP_QUALITY = 85  # Of 100, as photographs are usually stored.

logger = logging.getLogger(__name__)


def write_turntable(
    frames: Tensor,  # [T, H, W, 3] display colours
    path: Path,
    frames_per_second: int = 30,
) -> Path:
    """Write a film that plays in every browser (H.264, yuv420p) or, for a .webp or .gif, loops for ever.

    A .webp keeps all colours, at a fraction of the size of a .gif, and shows wherever pictures do.

    Where imageio-ffmpeg is not installed an .mp4 becomes a .gif beside it, which is logged.

    Returns:
        The path that was really written.

    Raises:
        InvalidInput: if there are no frames.
        FileProblem: if the suffix is not .mp4, .webp or .gif, or the file cannot be written.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise InvalidInput(f"write_turntable: frames of shape {list(frames.shape)}, expected [T, H, W, 3] with T >= 1.")
    if path.suffix.lower() not in (".mp4", ".webp", ".gif"):
        raise FileProblem(f"{path}: films are written as .mp4, .webp or .gif.")
    pixels = to_uint8(frames)
    if path.suffix.lower() == ".mp4":
        if ffmpeg := _find_ffmpeg():
            _write_mp4(ffmpeg, pixels, path, frames_per_second)
            return path
        path = path.with_suffix(".gif")
        logger.warning("%s, not .mp4: imageio-ffmpeg is missing (pip install imageio-ffmpeg)", path.name)
    _write_pictures(pixels, path, frames_per_second)
    return path


def _find_ffmpeg() -> str | None:
    """The path of the ffmpeg program that imageio-ffmpeg brings along; None without it."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # RuntimeError: it has no program for this platform, and none is on the PATH.
        return None


def _write_mp4(ffmpeg: str, pixels: NDArray[np.uint8], path: Path, frames_per_second: int) -> None:
    _, height, width, _ = pixels.shape
    # yuv420p stores one colour per 2 x 2 pixels, so sides must be even: the last row or column is repeated.
    pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    size = f"{width + width % 2}x{height + height % 2}"
    with replacing(path) as temporary:
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(frames_per_second), "-i", "-"]
        # faststart puts the index first, so that a browser can play while it loads.
        target = [
            "-c:v",
            "libx264",
            "-crf",
            "18",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
            str(temporary.absolute()),
        ]  # No name is taken for a flag.
        # Not imageio_ffmpeg.write_frames, which leaves its pipes open.
        command = [ffmpeg, "-loglevel", "error", "-y", *source, *target]
        done = subprocess.run(command, input=pixels.tobytes(), capture_output=True, check=False)
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise FileProblem(f"{path}: cannot be written by ffmpeg ({reason[0]}). Check the folder, or write a .gif.")


def _write_pictures(pixels: NDArray[np.uint8], path: Path, frames_per_second: int) -> None:
    first, *others = (Image.fromarray(frame) for frame in pixels)
    film = {"save_all": True, "append_images": others, "duration": round(1000 / frames_per_second), "loop": 0}
    if path.suffix.lower() == ".webp":
        film |= {"quality": _WEBP_QUALITY, "method": 2}  # Slower methods save a few per cent.
    with replacing(path) as temporary:
        first.save(temporary, **film)
