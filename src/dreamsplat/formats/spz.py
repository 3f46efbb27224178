"""Niantic's .spz file (github.com/nianticlabs/spz): about a tenth of a .ply, with one to three bytes per value.

A header of 16 bytes (version 4: 32), then one block per attribute in this order, all little-endian:

| block | content | round-trip error |
|---|---|---|
| positions | 3 x 24-bit fixed point | 2^-13 world units for extents of 0.5 to 2048, see `fraction_bits` |
| alphas | opacity in 1/255 | 1/510 |
| colours | 0.5 + 0.15 sh_0 in 1/255 | 0.0131 of the coefficient, 0.0037 of the colour, within [-0.44, 1.44] |
| scales | 16 (ln s + 10) | 3.2 %, within 4.54e-5 and 379 world units |
| rotations | which of x y z w is the largest, and the others as a sign and 9 bits each | 0.3 degrees |
| sh | 128 + 128 c, with c rounded to multiples of `SH_STEP` / 128 | half a step, within [-1, 1] |

Values outside a range are clamped to it. Version 3 is written, in gzip, which all readers of the format support.
Versions 1 (positions in float16), 2 (rotations as x y z in bytes), 3, and 4 (each block in zstd, which needs the
`zstandard` package) are read. Degree 4 and vendor extensions are dropped, with a warning.

The authors' library can convert to the axes that it calls RUB, but files do not record it, and many writers do not.
As in splat-transform, values are read and written unchanged: our axes have +z up and the front towards -y, and
`frame.Z_UP_TO_Y_UP` turns them to RUB.
"""

import logging
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.errors import InvalidInput, MissingDependency
from dreamsplat.files.atomic import read_bytes, refuse, replacing
from dreamsplat.formats.smallest_three import HALF_RANGE, with_largest, without_largest
from dreamsplat.types import Gaussians

_log = logging.getLogger(__name__)

SH_STEP = 5
"""Coefficients of degree 1 to 3 are rounded to multiples of this many 128ths. Readers accept any byte, so this only
trades size for accuracy. The authors use 8 for degree 1 and 16 above, though all basis functions weigh the same. With
white noise of 0.03 as coefficients, objects then render at 40 to 42 dB in 1/12 of the .ply; 5 gives 46 to 48 dB in
1/9.3."""
COLOUR_SCALE = 0.15
"""Factor on degree-0 coefficients; less than 0.282, which leaves room for colours beyond [0, 1]."""
MOST_EXPANSION = 12
"""A file that would unpack to more than 16 MiB plus this many times its size is refused: real objects shrink 2 to 5
times, and a few kilobytes could otherwise ask for gigabytes. Bytes after the packed blocks do not count."""

_MAGIC = b"NGSP"
_HEADER = struct.Struct("<4sIIBBBB")
_GZIP = 31  # zlib's code for a gzip stream with the largest window.
_CODES = np.arange(256, dtype=np.float32)
_QUAT_STEPS = 511 / HALF_RANGE
_EXTENSIONS, _LEVELS_OF_DETAIL = 0x02, 0x80  # Flags: vendor extensions, or Spark's tree, follow the blocks.


@dataclass(frozen=True)
class _Header:
    """What the first 16 bytes say."""

    version: int
    count: int
    degree: int
    fraction_bits: int
    flags: int

    @property
    def sizes(self) -> dict[str, int]:
        """The blocks and their bytes per Gaussian, in order."""
        return {
            "positions": 6 if self.version == 1 else 9,
            "alphas": 1,
            "colours": 3,
            "scales": 3,
            "rotations": 3 if self.version < 3 else 4,
            "sh": 3 * ((self.degree + 1) ** 2 - 1),
        }

    @property
    def total(self) -> int:
        """Bytes of all blocks."""
        return self.count * sum(self.sizes.values())


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as .spz, version 3; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
        InvalidInput: if a coordinate is 2^23 or more.
    """
    means, scales, quats, opacities, sh = (field.float().cpu().numpy() for field in gaussians.tensors().values())
    bits = fraction_bits(float(np.abs(means).max(initial=0)))
    header = _HEADER.pack(_MAGIC, 3, len(gaussians), gaussians.sh_degree, bits, 0, 0)
    blocks = [
        np.frombuffer(header, np.uint8),
        _pack_fixed(means, bits),
        _to_bytes(255 * opacities),
        _to_bytes(255 * (0.5 + COLOUR_SCALE * sh[:, 0])),
        _to_bytes(16 * (np.log(scales) + 10)),
        _pack_quats(quats),
        _to_bytes(128 + SH_STEP * (sh[:, 1:] * (128 / SH_STEP)).round()),
    ]
    # Such bytes hardly ever repeat as strings. Matching only runs is ten times faster, and smaller where it matters, at
    # degree 3. Z_BLOCK gives each attribute a code of its own. zlib's gzip header holds no name and no time.
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    parts = [part for block in blocks for part in (packer.compress(block.tobytes()), packer.flush(zlib.Z_BLOCK))]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join([*parts, packer.flush()]))


def fraction_bits(
    extent: float,  # largest absolute coordinate, world units
) -> int:
    """Bits after the binary point of a 24-bit coordinate: 12, more for objects below half a unit, fewer above 2048.

    Positions are then off by at most 2^-13 units; by 2^-12 of a small extent or 2^-25 units; by 2^-23 of a large one.

    Raises:
        InvalidInput: if the extent is 2^23 or more.
    """
    exponent = math.frexp(extent)[1]  # extent < 2^exponent
    if exponent > 23:
        raise InvalidInput(
            f"means: a coordinate of {extent:.6g}, but .spz holds less than 2^23.", advice="Scale the object down."
        )
    return min(12 - min(exponent, 0), 23 - exponent, 24)


def read(path: Path) -> Gaussians:
    """Read a .spz file of version 1 to 4: float32, on the CPU.

    Raises:
        FileProblem: if the file is missing, not an .spz file, truncated, damaged, or expands too much.
        MissingDependency: if it is of version 4 and zstandard is not installed.
    """
    content = read_bytes(path)
    if content[:4] == _MAGIC:
        header, blocks = _open_zstd(path, content)
    elif content[:2] == b"\x1f\x8b":
        header, blocks = _open_gzip(path, content)
    else:
        refuse(path, "not an .spz file: it begins neither with 'NGSP' nor like a gzip file")
    count = header.count
    codes = {name: np.frombuffer(blocks[name], np.uint8).reshape(count, size) for name, size in header.sizes.items()}
    if header.version == 1:
        means = codes["positions"].view("<f2").astype(np.float32)
    else:
        means = _unpack_fixed(codes["positions"], header.fraction_bits)
    coefficients = (min(header.degree, 3) + 1) ** 2
    sh = np.empty((count, 3 * coefficients), np.float32)
    sh[:, :3] = ((_CODES / 255 - 0.5) / COLOUR_SCALE)[codes["colours"]]
    sh[:, 3:] = ((_CODES - 128) / 128)[codes["sh"][:, : 3 * coefficients - 3]]
    unpack_quats = _unpack_first_three if header.version < 3 else _unpack_smallest_three
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(np.exp(_CODES / 16 - 10)[codes["scales"]]),
        quats=torch.from_numpy(unpack_quats(codes["rotations"])).contiguous(),
        opacities=torch.from_numpy((_CODES / 255)[codes["alphas"][:, 0]]),
        sh=torch.from_numpy(sh.reshape(count, coefficients, 3)),
    )


def _open_gzip(path: Path, content: bytes) -> tuple[_Header, dict[str, bytes]]:
    """Header and blocks of version 1 to 3: one gzip stream, unpacked only as far as the header declares."""
    stream = zlib.decompressobj(_GZIP)
    try:
        header = _header(path, stream.decompress(content, _HEADER.size), (1, 2, 3))
        _check_expansion(path, header, len(content))
        sizes = {name: header.count * size for name, size in header.sizes.items()}
        blocks = {name: _next(stream, size) for name, size in sizes.items()}
        extra = _next(stream, 1)  # Also reads and checks the end of the stream.
    except zlib.error as error:
        refuse(path, f"damaged: its gzip stream cannot be unpacked ({error})")
    found = sum(len(block) for block in blocks.values())
    if found < header.total:
        refuse(path, f"truncated: {header.count} Gaussians need {header.total} bytes, it unpacks to {found}")
    if not (extra or stream.eof):
        refuse(path, "truncated: its gzip stream does not end")
    if extra and not header.flags & (_EXTENSIONS | _LEVELS_OF_DETAIL):
        refuse(path, f"damaged: it unpacks to more than the {header.total} bytes that {header.count} Gaussians need")
    _check_expansion(path, header, len(content) - len(stream.unused_data))
    return header, blocks


def _next(stream: "zlib._Decompress", size: int) -> bytes:
    """The next bytes of a stream, fewer at its end. To zlib, 0 means all, and past the end it counts the rest twice."""
    return stream.decompress(stream.unconsumed_tail, size) if size and not stream.eof else b""


def _open_zstd(path: Path, content: bytes) -> tuple[_Header, dict[str, bytes]]:
    """Header and blocks of version 4: a table of sizes, then a zstd frame for each block that is not empty."""
    try:
        import zstandard  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        advice = 'Run pip install "dreamsplat[spz4]", or save it as version 3.'
        raise MissingDependency(f"{path}: .spz version 4 needs zstandard.", advice=advice) from error
    header = _header(path, content[: _HEADER.size], (4,))
    sizes = {name: header.count * size for name, size in header.sizes.items()}
    blocks = dict.fromkeys(sizes, b"")
    present = [name for name, size in sizes.items() if size]
    (table,) = struct.unpack_from("<I", content[:32].ljust(32, b"\0"), 16)
    offset = table + 16 * content[15]
    if table < 32 or offset > len(content) or content[15] < len(present):
        refuse(path, "truncated, or its table of contents is damaged")
    packed_sizes = struct.unpack_from(f"<{2 * len(present)}Q", content, table)[::2]
    _check_expansion(path, header, min(sum(packed_sizes), len(content) - offset))  # The sizes may be false.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    for i, name in enumerate(present):
        packed, unpacked = struct.unpack_from("<QQ", content, table + 16 * i)
        if unpacked != sizes[name] or offset + packed > len(content):
            refuse(path, f"{name}: {unpacked} bytes in {packed}, expected {sizes[name]}; truncated or damaged")
        try:
            blocks[name] = unpacker.stream_reader(content[offset : offset + packed]).read(unpacked + 1)
        except zstandard.ZstdError as error:
            refuse(path, f"{name}: damaged, its zstd frame cannot be unpacked ({error})")
        if len(blocks[name]) != unpacked:
            refuse(path, f"{name}: damaged, its zstd frame does not unpack to {unpacked} bytes")
        offset += packed
    return header, blocks


def _header(path: Path, start: bytes, versions: tuple[int, ...]) -> _Header:
    """The unpacked header of a file; refused if it is not one of these versions, or out of range."""
    if len(start) < _HEADER.size or start[:4] != _MAGIC:
        refuse(path, "not an .spz file, or truncated: there is no header that begins with 'NGSP'")
    _, version, count, degree, bits, flags, _ = _HEADER.unpack(start)
    header = _Header(version, count, degree, bits, flags)
    if version not in versions or degree > 4 or bits > 30:
        known = f"expected version {versions[0]} to {versions[-1]}, degree 0 to 4, at most 30 bits"
        refuse(path, f"version {version}, degree {degree}, {bits} fraction bits; {known}")
    if degree > 3:
        _log.warning("%s: spherical harmonics of degree 4 are cut to degree 3.", path)
    if flags & _EXTENSIONS:
        _log.warning("%s: vendor extensions are ignored.", path)
    return header


def _check_expansion(path: Path, header: _Header, packed: int) -> None:
    """Refuse a file whose `packed` bytes would unpack to more than those of any real object."""
    if header.total > MOST_EXPANSION * packed + (16 << 20):
        need = f"{header.count} Gaussians need {header.total} bytes"
        refuse(path, f"truncated or damaged: {need}, too many for a file of {packed}")


def _to_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)


def _pack_fixed(
    values: NDArray[np.float32],  # [N, 3]
    bits: int,
) -> NDArray[np.uint8]:  # [3 N, 3]
    """The lower three bytes of `values` times 2^bits, rounded, as two's complement."""
    most = 2**23 - 1  # Half a step below 2^23 would round up to it.
    whole = np.ldexp(values, bits).round().clip(-most, most).astype("<i4")
    return whole.reshape(-1, 1).view(np.uint8)[:, :3]


def _unpack_fixed(
    codes: NDArray[np.uint8],  # [N, 9]
    bits: int,
) -> NDArray[np.float32]:  # [N, 3]
    whole = np.zeros((3 * len(codes), 4), np.uint8)
    whole[:, 1:] = codes.reshape(-1, 3)  # The upper three bytes, so that the shift extends the sign.
    return np.ldexp((whole.view("<i4") >> 8).astype(np.float32), -bits).reshape(-1, 3)


def _pack_quats(
    quats: NDArray[np.float32],  # [N, 4] (w, x, y, z), any non-zero length
) -> NDArray[np.uint32]:  # [N]
    """Index of the largest of (x, y, z, w) in two bits, then sign and magnitude of the others in ten bits each."""
    largest, others = without_largest(quats[:, [1, 2, 3, 0]].astype(np.float64))
    codes = (np.abs(others) * _QUAT_STEPS).round().clip(0, 511).astype(np.uint32) | (others < 0).astype(np.uint32) << 9
    return (largest.astype(np.uint32) << 30 | codes[:, 0] << 20 | codes[:, 1] << 10 | codes[:, 2]).astype("<u4")


def _unpack_smallest_three(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Quaternions [N, 4] (w, x, y, z) of length 1, from bytes [N, 4]."""
    packed = codes.view("<u4")  # [N, 1]
    fields = packed >> np.array([20, 10, 0], np.uint32) & 1023
    others = (fields & 511).astype(np.float32) / np.float32(_QUAT_STEPS) * np.where(fields & 512, -1, 1)
    return with_largest((packed[:, 0] >> 30).astype(np.int64), others.astype(np.float32))[:, [3, 0, 1, 2]]


def _unpack_first_three(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Quaternions [N, 4] (w, x, y, z) of length 1, from bytes [N, 3]."""
    xyz = codes.astype(np.float32) / 127.5 - 1
    w = np.sqrt((1 - np.square(xyz).sum(axis=1, keepdims=True)).clip(0))
    wxyz = np.concatenate([w, xyz], axis=1)
    return wxyz / np.linalg.norm(wxyz, axis=1, keepdims=True)
