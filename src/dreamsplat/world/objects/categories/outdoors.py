"""Things of field and pond: mushroom, snowman, pine tree, duck.

Each maker draws one object: parts in any scale, front towards -y. `fitted` brings them to size.
"""

import math

from dreamsplat.world.objects.makers import (
    BEAK,
    COAL,
    CREAM,
    DARK_WOOD,
    FACING_FRONT,
    GOLD,
    SNOW,
    WOOD,
    Draw,
    arc,
    on_dome,
    star,
    towards,
    turned,
)  # fmt: skip
from dreamsplat.world.objects.primitives import Box, Ellipsoid, Torus
from dreamsplat.world.objects.profiles import CappedCone, Extrusion, Lathe
from dreamsplat.world.objects.shapes import Part

SCARF = (0.66, 0.10, 0.20)


def mushroom(draw: Draw) -> list[Part]:
    """A toadstool: coloured cap with white spots on a pale stem."""
    cap, dome, stem = draw.around(0.84, 0.07), draw.around(0.70), draw.around(0.82)
    thick = draw.around(0.30)
    profile = ((0.0, -0.1), (cap * 0.9, -0.1), (cap, -0.03), *arc(cap, dome, 0.0, 0, 90, 12))
    spots = []
    phase = draw.between(-8, 8)
    for index, (azimuth, rise) in enumerate([(a, 24) for a in range(0, 360, 60)] + [(a, 58) for a in (30, 150, 270)]):
        size = draw.around(0.18 if index % 2 else 0.15)
        (x, y, z), outward = on_dome(cap, dome, azimuth + phase - 90, rise)
        spots.append(Part(Ellipsoid((size, size, 0.06)), SNOW, 1, (x, y, z + stem), towards(outward)))
    return [
        Part(CappedCone((0, 0, 0), (0, 0, stem), thick * 1.2, thick), CREAM),
        Part(CappedCone((0, 0, stem - 0.13), (0, 0, stem - 0.05), cap * 0.86, cap * 0.86), CREAM, 0.9),
        Part(Lathe(profile), translation=(0, 0, stem)),
        *spots,
    ]


def eyes(radius: float, apart: float, forward: float, height: float) -> list[Part]:
    """Two white eyes with black pupils at (+-apart, -forward, height)."""
    return [
        part for side in (-1, 1) for part in (
            Part(Ellipsoid((radius, radius, radius)), SNOW, 1, (side * apart, -forward, height)),
            Part(Ellipsoid((radius * 0.72, radius * 0.72, radius * 0.72)), COAL, 0.5,
                 (side * (apart + radius * 0.10), -forward - radius * 0.46, height)),
        )
    ]  # fmt: skip


def snowman(draw: Draw) -> list[Part]:
    """A snowman of coloured snow with hat, scarf, carrot and buttons."""
    low, middle, head = draw.around(0.68, 0.06), draw.around(0.50, 0.06), draw.around(0.41, 0.06)
    belly = low + middle * 0.86
    face = belly + middle * 0.72 + head * 0.72
    brim = face + head * 0.66
    hat, crown = head * 0.64, draw.around(0.34)
    buttons = []
    for rise in (0.42, -0.02, -0.42):
        y, z = -middle * math.cos(rise), belly + middle * math.sin(rise)
        buttons.append(Part(Ellipsoid((0.075, 0.075, 0.075)), COAL, 1, (0, y, z)))
    hand = belly + draw.between(0.2, 0.36)
    arms = [
        Part(CappedCone((s * middle * 0.8, 0, belly + 0.1), (s * (middle + 0.42), -0.1, hand), 0.06, 0.055), DARK_WOOD)
        for s in (-1, 1)
    ]  # fmt: skip
    neck = belly + middle * 0.80
    return [
        Part(Ellipsoid((low, low, low * 0.95)), translation=(0, 0, low * 0.9)),
        Part(Ellipsoid((middle, middle, middle)), translation=(0, 0, belly)),
        Part(Ellipsoid((head, head, head)), translation=(0, 0, face)),
        Part(Torus(head * 0.74, 0.105), SCARF, 1, (0, 0, neck)),
        Part(Box((0.095, 0.05, 0.24), 0.04), SCARF, 0.9, (0.2, -middle * 0.86, neck - 0.22), turned("x", -14)),
        Part(CappedCone((0, -head * 0.8, face), (0, -head - draw.around(0.38), face - 0.03), 0.11, 0.0), BEAK),
        *eyes(0.105, 0.16, head * 0.83, face + 0.13),
        *buttons,
        *arms,
        Part(CappedCone((0, 0, brim), (0, 0, brim + 0.09), hat * 1.42, hat * 1.42), COAL),
        Part(CappedCone((0, 0, brim), (0, 0, brim + crown), hat, hat * 1.04), COAL),
        Part(CappedCone((0, 0, brim + 0.08), (0, 0, brim + 0.2), hat * 1.06, hat * 1.06), SCARF),
    ]


def tree(draw: Draw) -> list[Part]:
    """A pine of three tiers with a golden star and baubles."""
    wide, tier = draw.around(0.78, 0.08), draw.around(0.72, 0.08)
    trunk = draw.around(0.34)
    parts = [Part(CappedCone((0, 0, 0), (0, 0, trunk + 0.1), 0.2, 0.17), WOOD)]
    phase = draw.between(0, 20)
    for level, (share, brightness) in enumerate([(1.0, 0.84), (0.78, 0.92), (0.56, 1.0)]):
        base, radius = trunk + level * tier * 0.66, wide * share
        cone = CappedCone((0, 0, base), (0, 0, base + tier * 1.05), radius, radius * 0.06)
        parts.append(Part(cone, "main", brightness))
        count = 5 - level
        for index in range(count):
            turn = math.radians(phase + level * 30 + index * 360 / count)
            place = (0.93 * radius * math.cos(turn), 0.93 * radius * math.sin(turn), base + 0.09)
            parts.append(Part(Ellipsoid((0.085, 0.085, 0.085)), GOLD if level % 2 else SNOW, 1, place))
    top = trunk + 2 * tier * 0.66 + tier * 1.05
    parts.append(Part(Extrusion(star(5, 0.25, 0.115), 0.075), GOLD, 1, (0, 0, top + 0.06), FACING_FRONT))
    return parts


def duck(draw: Draw) -> list[Part]:
    """A rubber duck."""
    wide, long, tall = draw.around(0.56, 0.07), draw.around(0.80, 0.07), draw.around(0.46, 0.07)
    head = draw.around(0.42, 0.06)
    neck_y, head_z = -long * 0.52, tall * 1.55 + head * 0.5
    wings = [
        Part(Ellipsoid((0.13, long * 0.5, tall * 0.52)), "main", 0.86, (s * wide * 0.88, long * 0.16, tall * 1.12),
             turned("x", 14))
        for s in (-1, 1)
    ]  # fmt: skip
    bill = draw.around(0.27, 0.08)
    return [
        Part(Ellipsoid((wide, long, tall)), translation=(0, 0, tall)),
        Part(CappedCone((0, long * 0.45, tall * 1.05), (0, long * 1.12, tall * draw.between(1.75, 2.0)), 0.36, 0.06)),
        Part(Ellipsoid((head, head, head)), translation=(0, neck_y, head_z)),
        Part(Ellipsoid((bill * 0.95, bill, 0.11)), BEAK, 1, (0, neck_y - head * 0.98, head_z - 0.10)),
        *[Part(p.primitive, p.colour, p.brightness, (p.translation[0], p.translation[1] + neck_y, p.translation[2]))
          for p in eyes(0.115, head * 0.52, head * 0.76, head_z + 0.15)],
        *wings,
    ]  # fmt: skip
