"""The files that a mesh refers to, and its textures: only from its own folder, and within reasonable sizes."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dreamsplat.files.atomic import read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("PNG", "JPEG", "BMP", "TGA", "GIF", "TIFF", "WEBP")
"""Supported kinds of texture. Pillow knows others, for one of which it starts another program."""
MOST_PIXELS = 1 << 24
"""Pixels that all textures of a file may have together, unless 16 per byte that was read are more."""

_log = logging.getLogger(__name__)


class Neighbours:
    """Files that a mesh refers to, such as textures, in its folder or below; each unusable one is logged once."""

    def __init__(self, path: Path) -> None:
        """For the mesh at `path`."""
        self.path, self._folder = path, path.absolute().parent.resolve()
        self._read: dict[Path, bytes] = {}
        self._reported = set[str]()

    @property
    def is_whole(self) -> bool:
        """Whether everything that was asked for was there, and usable."""
        return not self._reported

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return sum(map(len, self._read.values()))

    def get(self, name: str) -> bytes:
        """The content of a file beside the mesh.

        Windows separators and options before the name are understood; for a path on the exporter's machine, the file's
        name alone is tried.

        Raises:
            FileNotFoundError: if it is missing, or an unsupported kind of picture.
        """
        suffix = Path(name).suffix.lower()
        for candidate in _places(name):
            try:
                content = self._content(candidate)
            except (OSError, ValueError):
                continue
            kind = kind_of_picture(content)
            if kind is not None and kind not in PICTURES:
                self.report(name, f"is {kind}, expected one of {', '.join(PICTURES)}")
                raise FileNotFoundError(name)
            if kind is None and suffix not in (".mtl", ".bin"):
                self.report(name, "is not a readable picture")
            return content
        if suffix != ".bin":  # A mesh without its numbers is useless: that becomes an error.
            self.report(name, "is missing")
        raise FileNotFoundError(name)

    __getitem__ = get

    def _content(self, name: str) -> bytes:
        place = (self._folder / name).resolve()
        if not place.is_relative_to(self._folder):
            raise ValueError(f"{name} is outside the folder")
        if place not in self._read:  # trimesh asks again for each material.
            self._read[place] = read_bytes(place)
        return self._read[place]

    def report(self, name: str, why: str) -> None:
        """Log once what is wrong with a picture."""
        if name not in self._reported:
            self._reported.add(name)
            _log.warning("%s: '%s' %s; colours ignore it.", self.path, name[:100], why)


class Textures:
    """The pixels of pictures, each decoded once; unusable pictures are logged."""

    def __init__(self, path: Path, size: int) -> None:
        """For the mesh at `path`, which has `size` bytes including all files that it refers to."""
        self.path = path
        self._left = max(MOST_PIXELS, 16 * size)
        self._known: dict[int, tuple[Image, Tensor | None]] = {}  # Holds the image, so that its id is not reused.

    def pixels(self, image: Image) -> Tensor | None:
        """[h, w, 3] uint8, first row on top; None if it is unreadable or too large."""
        if id(image) not in self._known:
            self._known[id(image)] = image, self._decoded(image)
        return self._known[id(image)][1]

    def _decoded(self, image: Image) -> Tensor | None:
        why = f"{image.width} x {image.height} pixels are too many for such a small file"
        self._left -= image.width * image.height
        if self._left >= 0 and image.format in (None, *PICTURES):
            try:
                return torch.from_numpy(np.array(image.convert("RGB")))
            except Exception as error:  # Pillow decodes late, and fails in many ways on truncated pictures.
                why = str(error)
        elif self._left >= 0:
            why = f"{image.format}, expected one of {', '.join(PICTURES)}"
        _log.warning("%s: a texture cannot be read (%s); colours ignore it.", self.path, why)
        return None


def _places(name: str) -> list[str]:
    """Where a file of that name may be, from the most likely place to the last resort."""
    slashes = name.strip().replace("\\", "/")
    whole_and_last_word = (slashes, slashes.split()[-1]) if slashes else ()
    guesses = [place for base in whole_and_last_word for place in (base, base.lstrip("/"), base.rsplit("/")[-1])]
    return [name.strip(), *guesses]


def kind_of_picture(content: bytes) -> str | None:
    """Pillow's name for the kind of picture, judged by its header alone; None if it is not a picture."""
    from PIL import Image

    if content[1:7] == b"KTX 20":
        return "KTX2"
    try:
        with Image.open(BytesIO(content)) as image:
            return image.format
    except Exception:  # Pillow fails in many ways.
        return None
