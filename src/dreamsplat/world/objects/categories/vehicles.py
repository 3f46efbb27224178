"""Things that travel: rocket, car, boat.

Each maker draws one object: parts in any scale, front towards -y. `fitted` brings them to size.
"""

from dreamsplat.world.objects.makers import (
    COAL,
    CREAM,
    FACING_FRONT,
    GLASS,
    GOLD,
    PALE_GREY,
    RUBBER,
    SNOW,
    WINDOW,
    WOOD,
    X_UP_Y,
    Draw,
    turned,
)  # fmt: skip
from dreamsplat.world.objects.primitives import Box, Ellipsoid, Torus
from dreamsplat.world.objects.profiles import CappedCone, Extrusion, Lathe, Outline
from dreamsplat.world.objects.shapes import Part

TAIL_LAMP = (0.80, 0.16, 0.12)


def rocket(draw: Draw) -> list[Part]:
    """A rocket with a pale hull, coloured nose, skirt and four fins, and a round window at the front."""
    radius, length = draw.around(0.46, 0.07), draw.around(0.92)
    nose, skirt, base = draw.around(0.72), draw.around(0.34), 0.2
    shoulder = base + skirt + length * 0.75
    nose_profile: Outline = (
        (0, 0), (radius * 1.02, 0), (radius * 0.90, nose * 0.30), (radius * 0.66, nose * 0.58),
        (radius * 0.34, nose * 0.83), (0, nose),
    )  # fmt: skip
    fin_reach = draw.around(0.48)
    fin: Outline = (
        (radius * 0.5, base + 0.1), (radius + fin_reach * 0.85, 0.0), (radius + fin_reach, 0.1),
        (radius + fin_reach, base + 0.30), (radius * 0.8, base + skirt + 0.38), (radius * 0.5, base + skirt + 0.3),
    )  # fmt: skip
    fins = [
        Part(Extrusion(fin, 0.075), "main", 0.9, rotation=turned("z", turn) @ FACING_FRONT)
        for turn in (45, 135, 225, 315)
    ]
    window_z = shoulder - length * 0.36
    return [
        Part(CappedCone((0, 0, base - 0.12), (0, 0, base + 0.1), radius * 0.72, radius * 0.5), COAL),
        Part(CappedCone((0, 0, base), (0, 0, base + skirt), radius * 0.82, radius)),
        Part(CappedCone((0, 0, base + skirt), (0, 0, shoulder), radius, radius), PALE_GREY),
        Part(Lathe(nose_profile), translation=(0, 0, shoulder)),
        Part(CappedCone((0, -radius * 0.6, window_z), (0, -radius - 0.04, window_z), 0.22, 0.22), WINDOW, 0.85),
        Part(Torus(0.24, 0.065), "main", 0.8, (0, -radius, window_z), turned("x", 90)),
        *fins,
    ]


def car(draw: Draw) -> list[Part]:
    """A car: dark glass, black wheels, yellow head lamps at the front and red tail lamps at the back."""
    half, long = draw.around(0.50, 0.06), draw.around(1.0, 0.06)
    wheel, floor, belt = draw.around(0.25, 0.08), 0.2, draw.around(0.66, 0.06)
    roof, start, end = belt + draw.around(0.36, 0.08), -long * draw.between(0.36, 0.46), long * draw.between(0.70, 0.80)
    body: Outline = (
        (-long, floor + 0.06), (-long + 0.06, floor), (long - 0.06, floor), (long, floor + 0.06), (long, belt - 0.10),
        (long - 0.06, belt), (start, belt), (-long + 0.12, belt - 0.08), (-long, belt - 0.16),
    )  # fmt: skip
    cabin: Outline = ((start, belt - 0.03), (end, belt - 0.03), (end - 0.16, roof), (start + 0.26, roof))
    pillar = (start + end) / 2 + 0.04
    wheels = [
        part for y in (-long * 0.60, long * 0.58) for s in (-1, 1) for part in (
            Part(CappedCone((s * (half - 0.16), y, wheel), (s * (half + 0.05), y, wheel), wheel, wheel), RUBBER),
            Part(CappedCone((s * half, y, wheel), (s * (half + 0.075), y, wheel), wheel * 0.5, wheel * 0.5), PALE_GREY),
        )
    ]  # fmt: skip
    lamps = [
        part for s in (-1, 1) for part in (
            Part(Ellipsoid((0.12, 0.07, 0.12)), GOLD, 1, (s * half * 0.62, -long, belt - 0.24)),
            Part(Box((0.12, 0.04, 0.07)), TAIL_LAMP, 1, (s * half * 0.66, long, belt - 0.22)),
        )
    ]  # fmt: skip
    return [
        Part(Extrusion(body, half), rotation=X_UP_Y),
        Part(Extrusion(cabin, half - 0.07), GLASS, rotation=X_UP_Y),
        Part(Box((half - 0.05, (end - start) / 2 - 0.17, 0.05), 0.04), "main", 1, (0, pillar + 0.01, roof + 0.01)),
        Part(Box((half - 0.055, 0.06, (roof - belt) / 2)), "main", 0.95, (0, pillar, (roof + belt) / 2)),
        Part(Box((half * 0.9, 0.05, 0.055)), PALE_GREY, 0.8, (0, -long, floor + 0.08)),
        Part(Box((half * 0.9, 0.05, 0.055)), PALE_GREY, 0.8, (0, long, floor + 0.08)),
        *wheels,
        *lamps,
    ]


def boat(draw: Draw) -> list[Part]:
    """A toy sailing boat: coloured hull, white sail swung out from the mast, its bow at the front."""
    half, long, depth = draw.around(0.52, 0.07), draw.around(0.95, 0.06), draw.around(0.29)
    plan: Outline = (
        (0, -long), (half * 0.62, -long * 0.58), (half, -long * 0.05), (half, long * 0.5), (half * 0.8, long * 0.82),
        (-half * 0.8, long * 0.82), (-half, long * 0.5), (-half, -long * 0.05), (-half * 0.62, -long * 0.58),
    )  # fmt: skip
    deck = tuple((x * 0.86, y * 0.88) for x, y in plan)
    top, mast_y, height = 2 * depth, -long * 0.12, draw.around(1.40, 0.07)
    boom = draw.around(0.78, 0.07)
    sail: Outline = ((0.03, 0.0), (boom, 0.0), (boom * 0.72, height * 0.30), (0.03, height - 0.26))
    jib: Outline = ((0.1, 0.0), (long * 0.72, 0.0), (0.1, height * 0.66))
    stripe: Outline = ((0.05, 0.16), (boom * 0.86, 0.16), (boom * 0.72, height * 0.30), (0.05, height * 0.30))
    swing = draw.between(40, 50)
    out = turned("z", swing) @ FACING_FRONT
    return [
        Part(Extrusion(plan, depth, 1.25), translation=(0, 0, depth)),
        Part(Extrusion(deck, 0.05, 1.0), CREAM, 0.9, (0, 0, top)),
        Part(CappedCone((0, mast_y, top), (0, mast_y, top + height), 0.065, 0.055), WOOD),
        Part(Extrusion(sail, 0.05), SNOW, 1, (0, mast_y, top + 0.20), out),
        Part(Extrusion(stripe, 0.062), "main", 1, (0, mast_y, top + 0.20), out),
        Part(Extrusion(jib, 0.045), SNOW, 1, (0, mast_y, top + 0.16), turned("z", -100) @ FACING_FRONT),
        Part(Box((0.16, 0.05, 0.08)), "main", 1, (0.16, mast_y, top + height - 0.07)),
    ]
