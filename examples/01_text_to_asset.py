"""Text to a 3D asset: the shortest program.

python examples/01_text_to_asset.py                 # 400 steps, half a minute
python examples/01_text_to_asset.py --steps 20
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import dreamsplat
from dreamsplat.formats.png import write_png

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--prompt", default="a yellow duck")
args = parser.parse_args()

# A preset is a value: an immutable `DreamConfig` whose parts are replaced, never changed.
config = replace(dreamsplat.PRESETS["bundled"], prompt=args.prompt, seed=1, steps=args.steps)

asset = dreamsplat.dream(config)
print(asset)  # count, bounds, degree of the spherical harmonics

dreamsplat.save(asset, "duck.ply")  # or .spz, .splat, .glb, .sog, .html: the suffix decides
front = dreamsplat.orbit(1, size=256).cameras
write_png(dreamsplat.render(asset, front, background=(1.0, 1.0, 1.0)).rgb[0], Path("duck.png"))
