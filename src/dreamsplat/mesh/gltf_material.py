"""What colour a glTF material gives a surface: a factor, and a picture that one set of texture coordinates places.

Khronos, glTF 2.0 specification, section 3.9, and its extensions for older, glowing and placed materials.
"""

import base64
import math
import os
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsplat.files.gltf import Glb
from dreamsplat.formats.ply_colours import scaled_to_1
from dreamsplat.formats.points import GREY
from dreamsplat.maths.srgb import linear_to_srgb
from dreamsplat.mesh.pictures import Neighbours, Textures, kind_of_picture
from dreamsplat.mesh.sample import Wrap

_SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"


@dataclass(frozen=True)
class Material:
    """A colour for a surface."""

    rgb: tuple[float, float, float] | None = None
    """Display colour; None if the file gives none."""
    picture: Tensor | None = None
    """[h, w, 3] uint8 display colours, by which `rgb` is multiplied."""
    uv_set: int = 0
    """Which TEXCOORD_n places the picture."""
    placed: NDArray[np.float64] | None = None
    """[2, 3] how KHR_texture_transform changes these coordinates."""
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    """What is beyond the picture's sides, along u and along v."""


class Materials:
    """The materials of a file; pictures are decoded once, and logged if they cannot be read."""

    def __init__(self, glb: Glb) -> None:
        """For a file."""
        self.glb, self._neighbours = glb, Neighbours(glb.path)
        self._known: dict[int, Material] = {}
        self._pictures: dict[int, Tensor | None] = {}
        self._textures: Textures | None = None

    def get(self, index: object) -> Material:
        """The material of that index; None is that of surfaces without one."""
        if index is None:
            return Material()
        if not isinstance(index, int):
            self.glb.refuse("a material is not named by its number; the file is damaged")
        if index not in self._known:
            self._known[index] = self._read(self.glb.item("materials", index))
        return self._known[index]

    def _read(self, material: dict[str, Any]) -> Material:
        glb = self.glb
        pbr = glb.mapping(material.get("pbrMetallicRoughness", {}), "pbrMetallicRoughness")
        factor, texture = pbr.get("baseColorFactor"), pbr.get("baseColorTexture")
        older = glb.extension(material, _SPECULAR_GLOSSINESS)
        if older is not None:
            factor, texture = older.get("diffuseFactor"), older.get("diffuseTexture")
        linear = [1.0, 1.0, 1.0] if factor is None else _factor(glb, factor, 4)[:3]
        if max(linear) == 0 and "emissiveFactor" in material:  # Black, and it glows.
            linear, texture = _factor(glb, material["emissiveFactor"], 3), material.get("emissiveTexture")
        rgb = linear_to_srgb(scaled_to_1(glb.path, torch.tensor(linear).double(), 1.0)).tolist()
        if texture is None:
            return Material((rgb[0], rgb[1], rgb[2]))
        return self._textured(rgb, glb.mapping(texture, "a texture"), named=factor is not None)

    def _textured(self, rgb: list[float], use: dict[str, Any], named: bool) -> Material:
        texture = self.glb.item("textures", use.get("index"))
        picture = self._picture(texture)
        if picture is None and not named:
            rgb = [GREY] * 3  # Its white would be that of the picture.
        transform = self.glb.extension(use, "KHR_texture_transform") or {}
        uv_set = transform.get("texCoord", use.get("texCoord", 0))
        sampler = self.glb.item("samplers", texture["sampler"]) if "sampler" in texture else {}
        wrap = _wrap(sampler.get("wrapS")), _wrap(sampler.get("wrapT"))
        if not isinstance(uv_set, int):
            self.glb.refuse("texCoord is not a number; the file is damaged")
        return Material((rgb[0], rgb[1], rgb[2]), picture, uv_set, _placed(self.glb, transform), wrap)

    def _picture(self, texture: dict[str, Any]) -> Tensor | None:
        """The pixels [h, w, 3] of a texture; None if there are none that can be read, which is logged."""
        extensions = self.glb.mapping(texture.get("extensions", {}), "extensions")
        others = [self.glb.mapping(each, name).get("source") for name, each in extensions.items()]
        source = next((each for each in (texture.get("source"), *others) if each is not None), None)
        if source is None:
            self._neighbours.report("a texture", "has no picture")
            return None
        image = self.glb.item("images", source)
        if source not in self._pictures:
            self._pictures[source] = self._decoded(image, source)
        return self._pictures[source]

    def _decoded(self, image: dict[str, Any], index: int) -> Tensor | None:
        from PIL import Image

        uri, name = image.get("uri"), f"picture {index}"
        if not isinstance(uri, str):
            content = bytes(self.glb.view(image.get("bufferView")))
        elif uri.startswith("data:"):
            try:
                content = base64.b64decode(uri.partition(",")[2])
            except ValueError:
                content = b""
        else:
            name = unquote(uri)
            try:
                content = self._neighbours.get(name)
            except FileNotFoundError:  # `Neighbours` has logged it.
                return None
        kind = kind_of_picture(content)
        if kind is None or kind == "KTX2":
            self._neighbours.report(
                name, "is not a readable picture" if kind is None else "is KTX2, expected PNG or JPEG"
            )
            return None
        if self._textures is None:
            read = sum(map(len, self.glb.buffers.values())) + self._neighbours.size
            self._textures = Textures(self.glb.path, read + os.path.getsize(self.glb.path))
        return self._textures.pixels(Image.open(BytesIO(content)))


def _wrap(mode: object) -> Wrap:
    return "clamp" if mode == 33071 else "mirror" if mode == 33648 else "repeat"


def _factor(glb: Glb, values: object, count: int) -> list[float]:
    """`count` numbers."""
    return glb.list_of_numbers({"a colour": values}, "a colour", count).tolist()


def _placed(glb: Glb, transform: dict[str, Any]) -> NDArray[np.float64] | None:
    """The matrix [2, 3] of KHR_texture_transform; None if it changes nothing."""
    given = {"offset": [0.0, 0.0], "scale": [1.0, 1.0], "rotation": 0.0} | transform
    (x, y), (width, height) = (glb.list_of_numbers(given, key, 2) for key in ("offset", "scale"))
    (angle,) = _factor(glb, [given["rotation"]], 1)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos * width, sin * height, x], [-sin * width, cos * height, y]])
    return None if np.array_equal(matrix, np.eye(2, 3)) else matrix
