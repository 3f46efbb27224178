"""The method as a generator: look at every step, stop whenever you like, and continue from a snapshot, bit for bit.

python examples/02_watch_it_form.py --steps 40
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

import dreamsplat

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=40)
args = parser.parse_args()

config = replace(dreamsplat.PRESETS["bundled"], prompt="a red mushroom", steps=args.steps)
half = args.steps // 2

for step in dreamsplat.dream_steps(config):
    if step.stage == "lift":
        assert step.cloud is not None
        print(f"the 3D prior gave {len(step.cloud):,} points; {len(step.asset):,} Gaussians start from them")
    elif step.index % 10 == 0:
        print(f"step {step.index} of {step.total}: {step.metrics}")
    if step.index == half:
        snapshot = step.snapshot  # a dictionary of tensors: keep it, or write it with safetensors
        break  # to cancel is to stop asking

*_, resumed = dreamsplat.dream_steps(config, snapshot)
*_, straight = dreamsplat.dream_steps(config)
print("the same asset, bit for bit:", torch.equal(resumed.asset.means, straight.asset.means))
