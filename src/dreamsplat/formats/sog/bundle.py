"""The container of SOG: a zip, or a folder, of meta.json and pictures. Every size is checked before it is used."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import read_bytes, read_start, refuse, replacing
from dreamsplat.files.checked_json import are_numbers, is_whole, parse, shown

_CODES = 256
_COUNT_LIMIT = 20_000_000  # Gaussians; pictures of more make decoders warn of bombs.
_SMALL_COUNT = 100_000  # Gaussians that a file of any size may hold.
_LEAST_BYTES = 4  # In larger files each takes at least this many; in real ones 8 or more.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, OverflowError, RuntimeError)
_DIRECTORY_LIMIT = 1 << 16  # bytes; a bundle has eight entries of about 60, each of which becomes a KB of objects.
_META_LIMIT = 1 << 20  # bytes that meta.json may unpack to; with three codebooks it has 10 KB.
_SMALL_ENTRY = 1 << 20  # bytes that a picture may unpack to in a file of any size.


def picture_of(channels: NDArray[np.integer]) -> bytes:
    """A nearly square lossless WebP: pixels in reading order hold the rows [N, 1 to 4], in 0..255; the rest are 0."""
    count = len(channels)
    width = max(4, 4 * int(np.ceil(count**0.5 / 4)))
    height = max(4, 4 * -(-count // (4 * width)))
    pixels = np.zeros((height * width, max(3, channels.shape[1])), dtype=np.uint8)
    pixels[:count, : channels.shape[1]] = channels
    return picture(pixels.reshape(height, width, -1))


def picture(pixels: NDArray[np.uint8]) -> bytes:
    """A lossless WebP of [H, W, 3 or 4] that keeps colours even where the last channel, not coverage here, is 0."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "WEBP", lossless=True, exact=True, quality=75, method=4)
    return encoded.getvalue()


def pack(path: Path, meta: dict[str, Any], pictures: dict[str, bytes]) -> None:
    """Write the zip: meta.json, then the pictures, without further compression and without dates.

    Raises:
        FileProblem: if the file cannot be written.
    """
    entries = {"meta.json": json.dumps(meta, separators=(",", ":"), allow_nan=False).encode(), **pictures}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # Its date is 1980-01-01, unlike that of a bare name.


class _ZipInMemory(io.BytesIO):
    """A zip that refuses to have a long directory parsed, which `zipfile` reads all at once."""

    longest_read = _DIRECTORY_LIMIT

    def read(self, size: int | None = -1, /) -> bytes:
        """The next `size` bytes; all for -1, which `zipfile` asks for only at the end of the file."""
        if size is not None and size > self.longest_read:
            raise zipfile.BadZipFile(f"a read of {size} bytes")
        return super().read(size)


def _zipped(path: Path) -> tuple[zipfile.ZipFile, int]:
    """A zip, in memory, and its size in bytes."""
    content = read_bytes(path)
    try:
        source = _ZipInMemory(content)
        archive = zipfile.ZipFile(source)
        source.longest_read = sys.maxsize
    except _ZIP_ERRORS as error:
        raise FileProblem(f"{path}: not a .sog bundle: not a zip, truncated, or with too many entries.") from error
    return archive, len(content)


def _length(meta: dict[str, Any]) -> object:
    """How many Gaussians version 1 holds: the first number of the shape of its means."""
    means = meta.get("means")
    shape = means.get("shape") if isinstance(means, dict) else None
    return shape[0] if isinstance(shape, list) and shape else None


@dataclass(frozen=True)
class Bundle:
    """A SOG file being read; its methods refuse whatever violates the format, naming the file."""

    path: Path
    """For messages."""
    archive: zipfile.ZipFile | Path
    """The zip, in memory, or the folder."""
    size_bytes: int
    """Of the whole file, or of all files in the folder."""
    meta: dict[str, Any]
    """The object in meta.json."""
    version: int
    """1, whose numbers lie evenly between bounds, or 2, whose numbers are looked up in codebooks."""
    count: int
    """Gaussians N."""

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read the meta.json of a bundle: a zip, the folder of an unpacked one, or its meta.json.

        Raises:
            FileProblem: if it is missing, not a zip, of another version, or claims more Gaussians than its size allows.
        """
        folder = path if path.is_dir() else path.parent if path.name == "meta.json" else None
        if folder:
            archive, size = folder, sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        else:
            archive, size = _zipped(path)
        bundle = cls(path, archive, size, {}, 0, 0)
        meta = parse(bundle._entry("meta.json", _META_LIMIT))
        if meta is None:
            bundle.refuse("meta.json is not a JSON object; the file is damaged")
        version = meta.get("version", 1)  # Version 1 does not state it.
        if version not in (1, 2):
            bundle.refuse(f"SOG version {shown(version)}, expected 1 or 2", "Convert it with splat-transform.")
        stated = meta.get("count") if version == 2 else _length(meta)
        count = bundle._whole("count", stated, 0, _COUNT_LIMIT)
        if count > _SMALL_COUNT + size // _LEAST_BYTES:
            bundle.refuse(f"{count} Gaussians in only {size} bytes; the file is damaged")
        return cls(path, archive, size, meta, version, count)

    def whole(self, section: str, key: str, least: int, most: int) -> int:
        """An integer in a section of meta.json."""
        return self._whole(f"{section} {key}", self._section(section).get(key), least, most)

    def numbers(self, section: str, key: str, least: int, most: int) -> NDArray[np.float64]:
        """A list of `least` to `most` finite numbers in a section of meta.json."""
        values = self._section(section).get(key)
        if not isinstance(values, list) or not least <= len(values) <= most or not are_numbers(values):
            self.refuse(f"meta.json: {section} {key} is not a list of {most} numbers; the file is damaged")
        return np.array(values, dtype=np.float64)

    def decoded(
        self,
        section: str,
        places: NDArray[np.uint8],  # [..., channels]
    ) -> NDArray[np.float32]:
        """What pixels of a section stand for, by its codebook or, in version 1, by the bounds of each channel."""
        if self.version == 1:
            low, high = (self._bounds(section, key, places.shape[-1]) for key in ("mins", "maxs"))
            return (low + (high - low) * (places / 255)).astype(np.float32)
        values = self._section(section).get("codebook")
        if isinstance(values, list) and len(values) == _CODES and values[0] is None and are_numbers(values[1:]):
            # Early writers lost the first code; like PlayCanvas's engine, extrapolate it from the others.
            values[0] = values[1] + (values[1] - values[-1]) / (_CODES - 1)
        codes = self.numbers(section, "codebook", 1, _CODES).astype(np.float32)
        if places.size and places.max() >= len(codes):
            self.refuse(f"{section}: a pixel asks for code {places.max()} of {len(codes)}; the file is damaged")
        return codes[places]

    def channels(self, section: str) -> int:
        """How many channels of a section have bounds of their own, in version 1."""
        bounds = self._section(section).get("mins")
        return len(bounds) if isinstance(bounds, list) else 1

    def size(self, section: str, index: int) -> tuple[int, int]:
        """Width and height, px, of a section's picture."""
        name, content = self._picture(section, index)
        if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8L" or len(content) < 25:
            self.refuse(f"{name}: not a lossless WebP picture", "Save the file with another writer.")
        sides = int.from_bytes(content[21:25], "little")  # Read before decoding, which allocates by it.
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1

    def pixels(
        self, section: str, index: int, *, least: int | None = None, width: int | None = None
    ) -> NDArray[np.uint8]:
        """The first N (or `least`) pixels [N, 4] of a section's picture; alpha is 255 if the picture has none.

        Args:
            section: the part of meta.json that names the picture.
            index: its position in the list of names.
            least: number of pixels, if not one per Gaussian.
            width: the required width, if any.
        """
        wanted = self.count if least is None else least
        (name, content), (columns, rows) = self._picture(section, index), self.size(section, index)
        if not wanted <= columns * rows <= 4 * wanted + _SMALL_COUNT or (width or columns) != columns:
            self.refuse(f"{name}: {columns} x {rows} pixels do not match {self.count} Gaussians; the file is damaged")
        try:
            with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
                decoded = np.asarray(image.convert("RGBA"))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise FileProblem(f"{self.path}: {name} cannot be decoded; the file is damaged.") from error
        return decoded.reshape(-1, 4)[:wanted]

    def _picture(self, section: str, index: int) -> tuple[str, bytes]:
        """The name, for messages, and the content of a section's picture."""
        names = self._section(section).get("files")
        if not isinstance(names, list) or len(names) <= index or not isinstance(names[index], str):
            self.refuse(f"meta.json: {section} files names no picture {index}; the file is damaged")
        # A zip does not shrink pictures, so they are at most as large as the file.
        return shown(names[index]), self._entry(names[index], self.size_bytes + _SMALL_ENTRY)

    def refuse(self, reason: str, advice: str = "") -> NoReturn:
        """Raise a FileProblem that names the file."""
        refuse(self.path, reason, advice)

    def _entry(self, name: str, limit: int) -> bytes:
        """An entry, which may not unpack to more than `limit` bytes."""
        if isinstance(self.archive, Path):
            if not re.fullmatch(r"\w[\w.-]*", name):
                self.refuse(f"{shown(name)} is not the name of a file beside it")
            return read_start(self.archive / name, limit)
        try:
            entry = self.archive.getinfo(name)
        except KeyError:
            self.refuse(f"not a .sog bundle: it has no {shown(name)}")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # Others can ask for gigabytes.
            self.refuse(f"{shown(name)} is compressed by method {entry.compress_type}, expected stored or deflated")
        try:
            with self.archive.open(entry) as stream:
                content = stream.read(limit + 1)
        except _ZIP_ERRORS as error:
            raise FileProblem(f"{self.path}: {shown(name)} cannot be unpacked; the file is damaged.") from error
        if len(content) > limit:
            self.refuse(f"{shown(name)} unpacks to more than {limit} bytes; the file is damaged")
        return content

    def _bounds(self, section: str, key: str, channels: int) -> NDArray[np.float64]:
        """A bound of each channel in version 1, which states one for all, or one each; the last is of opacity."""
        value = self._section(section).get(key)
        values = self.numbers(section, key, channels, 4) if isinstance(value, list) else value
        if not isinstance(values, np.ndarray):
            if not are_numbers([values]):
                self.refuse(f"meta.json: {section} {key} is {shown(values)}, expected numbers")
            values = np.full(channels, values, dtype=np.float64)
        return values[:channels]

    def _section(self, name: str) -> dict[str, Any]:
        section = self.meta.get(name)
        if not isinstance(section, dict):
            self.refuse(f"meta.json has no section {name}; the file is damaged")
        return section

    def _whole(self, name: str, value: Any, least: int, most: int) -> int:
        if not is_whole(value, least, most):
            self.refuse(f"meta.json: {name} is {shown(value)}, expected an integer from {least} to {most}")
        return value
