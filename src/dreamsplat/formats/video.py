"""Turntable films: MP4 through the optional package imageio-ffmpeg; animated WebP or GIF without it.

Frames are encoded as they come, so that memory does not grow with their number.
"""

import logging
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image
from torch import Tensor

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.maths.srgb import to_uint8

FILM_SUFFIXES = (".mp4", ".webp", ".gif")
"""Kinds of film."""
LARGEST_SIDE = 4096
"""Width and height that a film may have, px: what decoders of H.264 in browsers and phones can play."""

_WEBP_QUALITY = 85  # Of 100, as photographs are usually stored.

logger = logging.getLogger(__name__)


class Film(Sized, Iterable[Tensor], Protocol):
    """T pictures [H, W, 3] of display colours, all of one size: a tensor [T, H, W, 3], or drawn as they are needed."""


def write_turntable(frames: Film, path: Path, frames_per_second: int = 30) -> Path:
    """Write a film that plays in every browser (H.264, yuv420p) or, as a .webp or .gif, loops forever.

    A .webp keeps all colours at a fraction of the size of a .gif, and is shown wherever pictures are. Without
    imageio-ffmpeg an .mp4 becomes a .gif beside it, which is logged. An old film stays until the new one is complete.

    Returns:
        The path that was really written.

    Raises:
        InvalidInput: if there are no frames, or their sizes differ or are too large.
        FileProblem: if the suffix is not .mp4, .webp or .gif, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in FILM_SUFFIXES:
        raise FileProblem(f"{path}: unknown kind of film.", advice=f"Use {', '.join(FILM_SUFFIXES)}.")
    if len(frames) == 0:
        raise InvalidInput("a film of 0 frames, expected at least one.", setting="frames")
    if suffix == ".mp4" and (ffmpeg := _find_ffmpeg()):
        _write_mp4(ffmpeg, _pixels(frames), path, frames_per_second)
        return path
    if suffix == ".mp4":
        path = path.with_suffix(".gif")
        logger.warning("%s, not .mp4: imageio-ffmpeg is missing (pip install imageio-ffmpeg)", path.name)
    pictures, duration_ms = map(Image.fromarray, _pixels(frames)), round(1000 / frames_per_second)
    with replacing(path) as temporary:
        if path.suffix.lower() == ".webp":
            _write_webp(pictures, len(frames), temporary, duration_ms)
        else:
            _write_gif(pictures, temporary, duration_ms)
    return path


def _pixels(frames: Film) -> Iterator[NDArray[np.uint8]]:
    """The frames as bytes [H, W, 3], one after another."""
    expected = None
    for index, frame in enumerate(frames):
        shape = tuple(frame.shape)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or shape != (expected or shape):
            raise InvalidInput(f"frame {index} of shape {list(shape)}, expected [H, W, 3] as for all.")
        if max(shape) > LARGEST_SIDE:
            raise InvalidInput(
                f"a film of {shape[1]} x {shape[0]} px, expected at most {LARGEST_SIDE}: players decode no more.",
                setting="size",
            )
        expected = shape
        yield to_uint8(frame)


def _find_ffmpeg() -> str | None:
    """The path of the ffmpeg program that imageio-ffmpeg brings along; None without it."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # RuntimeError: it has no program for this platform, and none is on the PATH.
        return None


def _write_mp4(ffmpeg: str, frames: Iterator[NDArray[np.uint8]], path: Path, frames_per_second: int) -> None:
    first = _even(next(frames))
    size = f"{first.shape[1]}x{first.shape[0]}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(frames_per_second), "-i", "-"]
    # faststart puts the index first, so that a browser can play while it loads.
    target = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    with replacing(path) as temporary, tempfile.TemporaryFile() as log:
        output = str(temporary.absolute())  # Absolute, so that a name with a dash is not taken as a flag.
        command = [ffmpeg, "-loglevel", "error", "-y", *source, *target, output]
        # Not imageio_ffmpeg.write_frames, which leaves its pipes open.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log) as process:
            assert process.stdin is not None, "it was asked for"
            try:
                process.stdin.write(first.tobytes())
                for frame in frames:
                    process.stdin.write(_even(frame).tobytes())
                process.stdin.close()
            except BrokenPipeError:  # It has ended; the reason is in its log.
                pass
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise FileProblem(
                f"{path}: cannot be written by ffmpeg ({lines[-1]}).", advice="Check the folder, or write a .gif."
            )


def _even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame [H, W, 3] with even sides, for yuv420p has one colour per 2 x 2 px. Repeats the last row, column."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


class _Reel(Image.Image):
    """Pictures that look like an animated file to Pillow, which asks for the next one by seeking it."""

    def __init__(self, pictures: Iterator[Image.Image], count: int) -> None:
        super().__init__()
        self._pictures, self.n_frames = pictures, count

    def seek(self, frame: int) -> None:
        picture = next(self._pictures)
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size


def _write_webp(pictures: Iterator[Image.Image], count: int, path: Path, duration_ms: int) -> None:
    first, others = next(pictures), [_Reel(pictures, count - 1)] if count > 1 else []
    with path.open("wb") as file:  # Pillow would leave a file of its own open when it is interrupted.
        first.save(
            file, "WEBP", save_all=True, append_images=others, duration=duration_ms, loop=0, quality=_WEBP_QUALITY,
            method=2,  # Slower methods save a few per cent.
        )  # fmt: skip


def _write_gif(pictures: Iterator[Image.Image], path: Path, duration_ms: int) -> None:
    """Write frame by frame, each with its own palette: Pillow's writer holds all frames before it writes the first."""
    with path.open("wb") as file:
        for index, picture in enumerate(pictures):
            frame = picture.quantize(256)
            if index == 0:
                file.writelines(GifImagePlugin.getheader(frame, info={"loop": 0, "duration": duration_ms})[0])
            file.writelines(GifImagePlugin.getdata(frame, duration=duration_ms, include_color_table=True))
        file.write(b";")
