"""PLY files of any layout: text or binary in either order, any elements, lists of any lengths.

Turk 1994, "The PLY Polygon File Format". Only the requested properties become arrays. If all records of an element have
the same size, they are read as a table. Otherwise a walk from record to record locates the lists, and their values are
gathered in one step.
"""

from __future__ import annotations

import struct
import warnings
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsplat.files.atomic import read_bytes, refuse
from dreamsplat.formats.ply_header import ORDERS, Element, Header, read_header, singles

_STRUCT_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}


@dataclass(frozen=True)
class Column:
    """One property of all records."""

    values: NDArray[Any]
    """[total] the values of all records, one record after another."""
    lengths: NDArray[np.int64]
    """[count] how many values each record has: 1, unless the property is a list."""


@dataclass(frozen=True)
class Ply:
    """A file, its header understood."""

    header: Header
    """What it says of itself."""
    body: bytes
    """What follows the header."""

    @classmethod
    def open(cls, path: Path) -> Ply:
        """Read a file.

        Raises:
            FileProblem: if it is missing, not a PLY file, or its header is damaged.
        """
        content = read_bytes(path)
        header = read_header(path, content)
        if header.format not in ORDERS:
            found = repr(header.format[:60]) if header.format else "no format line"
            refuse(path, f"{found}, expected one of {', '.join(ORDERS)}", "Export it again.")
        return cls(header, content[header.size :])

    @property
    def order(self) -> str:
        """Byte order as numpy writes it; empty for text."""
        return ORDERS[self.header.format]

    def columns(self, wanted: dict[str, tuple[str, ...]]) -> dict[str, dict[str, Column]]:
        """The requested properties by element and name, as far as the header declares them.

        Raises:
            FileProblem: if the file ends too early or is damaged.
        """
        data = _Words(self) if not self.order else _Bytes(self)
        at, found = 0, dict[str, dict[str, Column]]()
        for name, element in self.header.elements.items():
            names = [n for n in wanted.get(name, ()) if n in element.properties]
            found[name], at = _read_element(self.header.path, data, element, names, at)
        return found


class _Bytes:
    """A binary body; places are counted in bytes."""

    def __init__(self, ply: Ply) -> None:
        self.content, self.order = ply.body, ply.order
        self.end = len(ply.body)

    def size(self, kind: str) -> int:
        return int(kind[1])

    def length_reader(self, kind: str) -> Callable[[int], float]:
        """A function that reads the number at a place; it raises IndexError or struct.error past the end."""
        if kind == "u1":
            return self.content.__getitem__
        unpack = struct.Struct(self.order + _STRUCT_CODES[kind]).unpack_from
        return lambda at: unpack(self.content, at)[0]

    def table(self, kind: str, at: int, rows: int, width: int, stride: int) -> NDArray[Any]:
        """[rows, width] values of records of one size."""
        dtype = np.dtype(self.order + kind)
        return np.ndarray((rows, width), dtype, self.content, at, (stride, dtype.itemsize))

    def chosen(self, kind: str, mask: NDArray[np.bool_]) -> NDArray[Any]:
        """The values at the places that `mask` marks."""
        return np.frombuffer(self.content, np.uint8)[mask].view(self.order + kind)


class _Words:
    """A text body as float64, one number per word; places are counted in words."""

    def __init__(self, ply: Ply) -> None:
        path, elements = ply.header.path, ply.header.elements.values()
        least = sum(element.count * len(element.properties) for element in elements)
        if least > len(ply.body) // 2 + 1:
            refuse(path, f"truncated: its header promises {least} numbers or more")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy warns, and stops, at a word that is not a number.
                self.words = np.fromstring(ply.body.decode("ascii", errors="replace"), sep=" ")
        except (ValueError, DeprecationWarning):
            refuse(path, "a word after its header is not a number")
        self.end = len(self.words)

    def size(self, kind: str) -> int:
        return 1

    def length_reader(self, kind: str) -> Callable[[int], float]:
        return self.words.data.__getitem__

    def table(self, kind: str, at: int, rows: int, width: int, stride: int) -> NDArray[Any]:
        return np.ndarray((rows, width), np.float64, self.words, 8 * at, (8 * stride, 8))

    def chosen(self, kind: str, mask: NDArray[np.bool_]) -> NDArray[Any]:
        return self.words[mask]


def _read_element(
    path: Path, data: _Bytes | _Words, element: Element, names: list[str], at: int
) -> tuple[dict[str, Column], int]:
    """The requested properties, and where the element ends."""
    if element.count == 0 or not element.properties:
        return {name: Column(np.empty(0), np.empty(0, np.int64)) for name in names}, at
    lists = element.properties.keys() - singles(element.properties)
    first, end = _walk(path, data, element, [], at, 1)
    widths = {name: int(first[name][1][0]) if name in lists else 1 for name in element.properties}
    stride = end - at
    if at + stride * element.count <= data.end:
        columns, alike = {}, True
        place = at
        for name, (kind, length_kind) in element.properties.items():
            if length_kind is not None:
                lengths = data.table(length_kind, place, element.count, 1, stride)
                alike = alike and bool((lengths == widths[name]).all())
                place += data.size(length_kind)
            if name in names and alike:
                values = data.table(kind, place, element.count, widths[name], stride).reshape(-1)
                columns[name] = Column(values, np.full(element.count, widths[name]))
            place += widths[name] * data.size(kind)
        if alike:
            return columns, at + stride * element.count
    elif not lists:
        refuse(path, f"truncated: it ends before the last of {element.count} records", "Export it again.")
    spans, end = _walk(path, data, element, names, at, element.count)
    return {name: _gathered(data, element.properties[name][0], *spans[name]) for name in names}, end


_Spans = dict[str, tuple["array[int]", "array[int]"]]  # Name -> where its values begin, and how many, by record.


def _walk(
    path: Path, data: _Bytes | _Words, element: Element, names: list[str], at: int, count: int
) -> tuple[_Spans, int]:
    """Where `count` records keep their lists and the other requested properties, and where the last record ends."""
    spans: _Spans = {}
    plan, skip = [], 0
    for name, (kind, length_kind) in element.properties.items():
        if length_kind is None and name not in names:
            skip += data.size(kind)
            continue
        spans[name] = array("q"), array("q")
        reader = None if length_kind is None else data.length_reader(length_kind)
        length_size = 0 if length_kind is None else data.size(length_kind)
        plan.append((skip, reader, length_size, data.size(kind), name, *spans[name]))
        skip = 0
    for _ in range(count):
        for before, reader, length_size, size, name, starts, lengths in plan:
            at += before
            length = 1
            if reader is not None:
                try:
                    stated = reader(at)
                except (IndexError, struct.error):
                    refuse(path, f"truncated: it ends before the last of {element.count} records", "Export it again.")
                if not 0 <= stated <= data.end or stated != int(stated):
                    refuse(path, f"a list '{name[:40]}' of length {stated:g}; the file is damaged")
                length = int(stated)
            at += length_size
            starts.append(at)
            lengths.append(length)
            at += length * size
        at += skip
        if at > data.end:
            refuse(path, f"truncated: it ends before the last of {element.count} records", "Export it again.")
    return spans, at


def _gathered(data: _Bytes | _Words, kind: str, starts: array[int], lengths: array[int]) -> Column:
    """The values of one property, gathered from these places."""
    first, count = np.frombuffer(starts, np.int64), np.frombuffer(lengths, np.int64)
    steps = np.zeros(data.end + 1, np.int8)
    filled = count > 0  # Places do not repeat among these.
    steps[first[filled]] = 1
    steps[first[filled] + count[filled] * data.size(kind)] -= 1
    return Column(data.chosen(kind, np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_)), count)
