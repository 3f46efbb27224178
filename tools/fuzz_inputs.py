"""Damaged files for `fuzz_readers.py`: whole ones of our own writers, and changes to them.

Bytes are flipped, cut, inserted or taken from another file, numbers are replaced by awkward ones, lines are moved. Of
files that are packed as a whole (gzip, zip, the JSON of a .glb) the content is changed and packed again, so that
changes come past checksums and lengths.
"""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from dreamsplat.errors import FileProblem
from dreamsplat.formats import save
from dreamsplat.formats.ply import save_points
from dreamsplat.types import Gaussians, PointCloud

LARGEST = 1 << 16
"""Bytes of the largest input."""
NUMBERS = (0, 1, -1, 2, 3, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64, 10**18)
WORDS = (b"nan", b"inf", b"-inf", b"1e309", b"1e-320", b"0x10", b"1_0", b"", b"null", b"[]", b"{}", b'""', b"\xff")
FLOATS = (0.0, -0.0, 1e38, 1e-45, -100.0, float("nan"), float("inf"), float("-inf"))


def gaussians(count: int, degree: int) -> Gaussians:
    """Random Gaussians."""
    generator = torch.Generator().manual_seed(count + degree)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    sh = 0.3 * draw(count, (degree + 1) ** 2, 3)
    return Gaussians(draw(count, 3), 0.02 * draw(count, 3).exp(), draw(count, 4), draw(count).sigmoid(), sh)


def whole_files(reader: str, folder: Path) -> list[bytes]:
    """Whole files, most of them small: changes then mostly fall where they matter."""
    if reader == "points":
        return clouds_and_meshes(folder)
    files = []
    for count, degree in ((1, 0), (2, 1), (0, 0), (5, 2), (3, 3), (300, 0)):
        with suppress(FileProblem):  # .glb cannot be empty.
            save(gaussians(count, degree), folder / f"seed{reader}")
            files.append((folder / f"seed{reader}").read_bytes())
    return [*files, in_doubles(files[0])] if reader == ".ply" else files


def in_doubles(ply: bytes) -> bytes:
    """A .ply with numbers of 64 bits, after an element of another kind."""
    header, marker, body = ply.partition(b"end_header\n")
    header = header.replace(b"element", b"element camera 3\nproperty short focal\nelement", 1)
    body = bytes(6) + np.frombuffer(body, "<f4").astype("<f8").tobytes()
    return header.replace(b"property float", b"property double") + marker + body


def clouds_and_meshes(folder: Path) -> list[bytes]:
    """Clouds and meshes, binary in both orders and as text, and Gaussians."""
    cloud = PointCloud(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), torch.eye(4, 3))
    save_points(cloud, folder / "seed.ply")
    save(gaussians(2, 0), folder / "splats.ply")
    files = [(folder / "seed.ply").read_bytes(), (folder / "splats.ply").read_bytes()]
    faces = "element face 2\nproperty list uchar int vertex_indices\nproperty uchar red\nproperty uchar green\n"
    for order, sign in (("ascii", ""), ("binary_little_endian", "<"), ("binary_big_endian", ">")):
        header = f"ply\nformat {order} 1.0\ncomment by hand\nelement vertex 4\nproperty float x\nproperty float y\n"
        header += f"property double z\n{faces}property uchar blue\nend_header\n"
        points = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.5), (0.0, 1.0, 0.0)]
        polygons = [(3, 0, 1, 2, 255, 0, 7), (4, 0, 1, 2, 3, 1, 2, 3)]
        if sign:
            body = b"".join(struct.pack(sign + "ffd", *point) for point in points)
            body += b"".join(struct.pack(f"{sign}B{len(p) - 4}i3B", *p) for p in polygons)
        else:
            body = "".join(" ".join(map(str, line)) + "\n" for line in points + polygons).encode()
        files.append(header.encode() + body)
    return files


def mutated(content: bytes, files: list[bytes], chance: random.Random) -> bytes:
    """The file with one to six changes, mostly inside what is packed."""
    if chance.random() < 0.7:
        if content[:2] == b"\x1f\x8b":
            return gzip.compress(changed(gzip.decompress(content), files, chance), 1, mtime=0)
        if content[:4] == b"PK\x03\x04":
            return rezipped(content, files, chance)
        if content[:4] == b"glTF":
            return described_anew(content, files, chance)
    return changed(content, files, chance)


def rezipped(content: bytes, files: list[bytes], chance: random.Random) -> bytes:
    """A zip of which one member was changed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        chosen = chance.choice(old.namelist())
        for name in old.namelist():
            member = old.read(name)
            new.writestr(zipfile.ZipInfo(name), changed(member, files, chance) if name == chosen else member)
    return packed.getvalue()


def described_anew(content: bytes, files: list[bytes], chance: random.Random) -> bytes:
    """A .glb of which the JSON was changed, with lengths that fit."""
    length = int.from_bytes(content[12:16], "little")
    text = changed(content[20 : 20 + length], files, chance)
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def changed(content: bytes, files: list[bytes], chance: random.Random) -> bytes:
    """Bytes with one to six changes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        chance.choice(CHANGES)(data, files, chance)
    return bytes(data[:LARGEST])


def place(data: bytearray, chance: random.Random) -> int:
    """Somewhere, mostly near the beginning, where headers are."""
    return chance.randrange(min(len(data), chance.choice((16, 64, 512, LARGEST))) or 1)


def flip(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """One bit, or a byte of any value."""
    if data:
        data[place(data, chance)] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))


def cut(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """A few bytes, or all from somewhere."""
    start = place(data, chance)
    del data[start : start + chance.choice((1, 4, chance.randint(1, 64), LARGEST))]


def insert(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """Bytes of noise, or some of the file once more."""
    start, length = place(data, chance), chance.choice((1, 4, chance.randint(1, 64)))
    again = place(data, chance)
    data[start:start] = chance.choice((chance.randbytes(length), data[again : again + length]))


def splice(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """The end of another file from somewhere on."""
    other = chance.choice(files)
    data[place(data, chance) :] = other[chance.randrange(len(other) or 1) :]


def number(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """An awkward number in place of one in the text."""
    found = list(re.finditer(rb"-?\d+\.?\d*", data[:4096]))
    if found:
        start, end = chance.choice(found).span()
        data[start:end] = chance.choice((str(chance.choice(NUMBERS)).encode(), chance.choice(WORDS)))


def binary_number(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """An awkward integer or float over some bytes."""
    start = place(data, chance) & ~chance.choice((0, 3))
    kind = chance.choice(("<H", "<I", "<Q", ">I", "<f", "<d"))
    size = struct.calcsize(kind)
    value = chance.choice(FLOATS) if kind[1] in "fd" else chance.choice(NUMBERS) % (1 << 8 * size)
    data[start : start + size] = struct.pack(kind, value)


def line(data: bytearray, files: list[bytes], chance: random.Random) -> None:
    """A line of the text removed, doubled, or put elsewhere."""
    head, marker, rest = bytes(data).partition(b"end_header\n")
    lines = (head if marker else bytes(data[:4096])).splitlines(keepends=True)
    if not marker or not lines:
        return
    taken = chance.choice(lines)
    if chance.random() < 0.5:
        lines.remove(taken)
    if chance.random() < 0.7:
        lines.insert(chance.randrange(len(lines) + 1), taken)
    data[:] = b"".join(lines) + marker + rest


CHANGES = (flip, flip, cut, insert, splice, number, number, binary_number, line)
