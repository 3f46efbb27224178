"""The header of a PLY file, which every reader of PLY files starts from. Turk 1994, "The PLY Polygon File Format"."""

from dataclasses import dataclass
from pathlib import Path

from dreamsplat.files.atomic import refuse

Properties = dict[str, tuple[str, str | None]]
"""Name -> numpy type of its values without byte order and, of a list, the type of its length."""

HEADER_LIMIT = 1 << 16
"""Bytes that a header may have; one of Gaussians of degree 3 has about 2,000."""

ORDERS = {"ascii 1.0": "", "binary_little_endian 1.0": "<", "binary_big_endian 1.0": ">"}
"""What a header calls its format -> byte order as numpy writes it; empty for text."""

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_MOST_DIGITS = 18  # Of a number of records: what int64 holds.


@dataclass(frozen=True)
class Element:
    """What a header says of one kind of record."""

    count: int
    """Records of the kind."""
    properties: Properties
    """In the order of the file."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its numbers."""

    path: Path
    """For messages."""
    format: str
    """The words after "format"; empty if there are none."""
    elements: dict[str, Element]
    """In the order of the file."""
    comments: list[list[str]]
    """The words of each comment."""
    size: int
    """Bytes, up to where the numbers begin."""


def singles(properties: Properties) -> list[str]:
    """The properties that are not lists, in the order of the file."""
    return [name for name, (_, length_type) in properties.items() if length_type is None]


def read_header(path: Path, content: bytes) -> Header:
    """The header of a file with this content.

    Raises:
        FileProblem: if it is not a PLY file, or its header is damaged.
    """
    if not content.startswith((b"ply\n", b"ply\r\n")):
        refuse(path, "not a PLY file: it does not start with 'ply'", "Export it again.")
    end = content.find(b"\nend_header", 0, HEADER_LIMIT)
    newline = content.find(b"\n", end + 1, end + 13)
    if end < 0 or newline < 0:
        refuse(path, "not a PLY file: its header has no end", "Export it again.")
    form, elements, comments, inside = "", dict[str, Element](), list[list[str]](), dict[str, tuple[str, str | None]]()
    for line in content[:end].decode("ascii", errors="replace").splitlines()[1:]:
        match line.split():
            case ["format", *words] if not form:
                form = " ".join(words)
            case ["element", name, number] if name not in elements:
                if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
                    refuse(path, f"{line.strip()[:60]!r} does not say how many", "Export it again.")
                inside = {}
                elements[name] = Element(int(number), inside)
            case ["property", "list", length, kind, name] if _fits(elements, inside, name, length, kind):
                inside[name] = (_TYPES[kind], _TYPES[length])
            case ["property", kind, name] if _fits(elements, inside, name, kind):
                inside[name] = (_TYPES[kind], None)
            case ["comment", *words]:
                comments.append(words)
            case ["obj_info", *_] | []:
                pass
            case words:
                refuse(path, f"unknown or repeated header line {' '.join(words)[:60]!r}", "Export it again.")
    return Header(path, form, elements, comments, newline + 1)


def _fits(elements: dict[str, Element], inside: Properties, name: str, *types: str) -> bool:
    """Whether a new property of known types can follow here."""
    return bool(elements) and name not in inside and set(types) <= _TYPES.keys()
