"""Things of the house: mug, teapot, chair, table, and the house itself.

Each maker draws one object: parts in any scale, standing on z = 0, front towards -y. `fitted` brings them to size.
"""

import math

from dreamsplat.world.objects.makers import BRICK, COAL, CREAM, DARK_WOOD, FACING_FRONT, WINDOW, WOOD, Draw, turned
from dreamsplat.world.objects.primitives import Box, Ellipsoid, Torus
from dreamsplat.world.objects.profiles import CappedCone, Extrusion, Lathe, Outline
from dreamsplat.world.objects.shapes import Part


def mug(draw: Draw) -> list[Part]:
    """A mug, its handle at +x, filled with coffee."""
    radius, height, wall = draw.around(0.62, 0.08), draw.around(1.2), 0.11
    foot = radius * draw.between(0.9, 1.0)
    cup: Outline = (
        (0.0, 0.0), (foot - 0.06, 0.0), (foot, 0.06), (radius, height - 0.03), (radius - 0.03, height),
        (radius - wall + 0.02, height), (radius - wall, height - 0.03), (foot - wall, wall), (0.0, wall),
    )  # fmt: skip
    ring, coffee = draw.around(0.34, 0.08), height - draw.between(0.14, 0.22)
    return [
        Part(Lathe(cup)),
        Part(CappedCone((0, 0, 0.05), (0, 0, coffee), foot - 0.05, radius - 0.05), DARK_WOOD),
        Part(Torus(ring, 0.105, math.radians(100)), "main", 0.94, (radius + 0.06, 0, height * 0.52), turned("x", 90)),
    ]


def teapot(draw: Draw) -> list[Part]:
    """A round teapot, its spout at +x and its handle at -x."""
    wide, tall = draw.around(0.72, 0.07), draw.around(0.58, 0.08)
    base = tall * 0.92
    lid, top = wide * 0.55, base + tall * 0.80
    reach = draw.around(0.62, 0.08)
    return [
        Part(Ellipsoid((wide, wide, tall)), translation=(0, 0, base)),
        Part(CappedCone((0, 0, 0), (0, 0, 0.2), wide * 0.62, wide * 0.55), "main", 0.8),
        Part(Torus(lid, 0.06), CREAM, translation=(0, 0, top)),
        Part(Ellipsoid((lid, lid, tall * 0.36)), translation=(0, 0, top)),
        Part(Ellipsoid((0.14, 0.14, 0.14)), COAL, translation=(0, 0, top + tall * 0.36 + 0.08)),
        Part(CappedCone((wide * 0.6, 0, base - 0.16), (wide + reach * 0.55, 0, base + 0.26), 0.24, 0.13)),
        Part(CappedCone((wide + reach * 0.55, 0, base + 0.26), (wide + reach * 0.78, 0, base + 0.48), 0.13, 0.12)),
        Part(Ellipsoid((0.132, 0.132, 0.132)), translation=(wide + reach * 0.55, 0, base + 0.26)),
        Part(Torus(draw.around(0.36, 0.08), 0.09, math.radians(125)), "main", 0.94,
             (-wide - 0.06, 0, base + 0.04), turned("z", 180) @ turned("x", 90)),
    ]  # fmt: skip


def chair(draw: Draw) -> list[Part]:
    """A chair with wooden legs, its back rest at +y."""
    half, deep, seat = draw.around(0.52, 0.07), draw.around(0.50, 0.07), draw.around(0.74, 0.08)
    rest, thick = draw.around(0.50), 0.125
    splay, leg = draw.between(0.0, 0.08), draw.around(0.088, 0.08)
    legs = [
        Part(CappedCone((sx * (half - 0.12 + splay), sy * (deep - 0.12 + splay), 0),
                        (sx * (half - 0.12), sy * (deep - 0.12), seat), leg * 0.85, leg), WOOD)
        for sx in (-1, 1) for sy in (-1, 1)
    ]  # fmt: skip
    lean = turned("x", -draw.between(4, 12))
    return [
        *legs,
        Part(Box((half, deep, thick), 0.06), translation=(0, 0, seat + thick)),
        Part(Box((half, 0.115, rest), 0.06), "main", 0.96, (0, deep - 0.04 + rest * 0.1, seat + thick + rest), lean),
    ]


def table(draw: Draw) -> list[Part]:
    """A table with a thick top and wooden legs."""
    half, deep, height = draw.around(1.0, 0.07), draw.around(0.68, 0.08), draw.around(0.76)
    leg = draw.around(0.105, 0.08)
    inset = 0.17
    legs = [
        Part(CappedCone((sx * (half - inset), sy * (deep - inset), 0),
                        (sx * (half - inset), sy * (deep - inset), height), leg * 0.85, leg * 1.1), WOOD)
        for sx in (-1, 1) for sy in (-1, 1)
    ]  # fmt: skip
    return [
        *legs,
        Part(Box((half - inset + 0.04, deep - inset + 0.04, 0.16)), "main", 0.85, (0, 0, height - 0.10)),
        Part(Box((half, deep, 0.105), 0.05), translation=(0, 0, height + 0.105)),
    ]


def house(draw: Draw) -> list[Part]:
    """A house: coloured roof, gables and door, door and windows at the front, a chimney to the right."""
    half, deep, wall = draw.around(0.66, 0.07), draw.around(0.60, 0.08), draw.around(0.80, 0.08)
    rise, over, thick = draw.around(0.54, 0.08), 0.15, 0.13
    slope = rise / half
    eave_x, eave_z = half + over, wall - over * slope
    roof: Outline = (
        (-eave_x, eave_z), (-eave_x + 0.05, eave_z - 0.06), (0, wall + rise - 0.02), (eave_x - 0.05, eave_z - 0.06),
        (eave_x, eave_z), (eave_x, eave_z + thick), (0, wall + rise + thick), (-eave_x, eave_z + thick),
    )  # fmt: skip
    gable: Outline = ((-half, wall), (half, wall), (0, wall + rise))
    chimney = (half * 0.55, deep * draw.between(-0.1, 0.35))
    door = 0.155
    glass_z = wall * 0.52
    panes = [
        part for side in (-1, 1) for part in (
            Part(Box((0.13, 0.04, 0.15)), WINDOW, 1, (side * half * 0.62, -deep, glass_z)),
            Part(Box((0.04, 0.14, 0.14)), WINDOW, 1, (side * half, -deep * 0.4, glass_z)),
            Part(Box((0.04, 0.14, 0.14)), WINDOW, 1, (side * half, deep * 0.4, glass_z)),
            Part(Box((0.03, 0.06, 0.14)), "main", 0.9, (side * half, 0, glass_z)),
        )
    ]  # fmt: skip
    return [
        Part(Box((half, deep, wall / 2)), CREAM, translation=(0, 0, wall / 2)),
        Part(Box((half + 0.05, deep + 0.05, 0.05)), "main", 0.7, (0, 0, 0.05)),
        Part(Extrusion(gable, deep), "main", 0.82, rotation=FACING_FRONT),
        Part(Extrusion(roof, deep + 0.09), rotation=FACING_FRONT),
        Part(Box((door, 0.06, 0.26)), "main", 0.9, (0, -deep, 0.32)),
        Part(CappedCone((0, -deep, wall + rise * 0.3), (0, -deep - 0.05, wall + rise * 0.3), 0.13, 0.13), WINDOW),
        Part(Box((0.13, 0.13, 0.42)), BRICK, translation=(*chimney, wall + rise * 0.85)),
        *panes,
    ]
