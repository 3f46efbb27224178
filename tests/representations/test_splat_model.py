"""What is drawn is watched after activation: logarithms and logits that are finite may not be so as lengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import CONFIG, SMALL

from dreamsplat.errors import Diverged
from dreamsplat.representations import LearningRates, Splats
from dreamsplat.representations.splat_model import SplatModel
from dreamsplat.runs import Failed, Warned, execute, read_record


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ("log_scales", 100.0), ("log_scales", -200.0), ("log_scales", 3e38), ("log_scales", float("nan")),
        ("means", float("inf")), ("quats", 0.0), ("sh_dc", float("nan")), ("logit_opacities", float("inf")),
    ],
)  # fmt: skip
def test_whatever_cannot_be_drawn_is_a_divergence(random_gaussians, leaf, value):
    model = SplatModel.from_gaussians(Splats(), random_gaussians(20))
    model.check(3)
    with torch.no_grad():
        model.params.leaves[leaf][7] = value
    with pytest.raises(Diverged, match="step 3: "):
        model.check(3)


@pytest.mark.parametrize("rates", [{"scales": 60.0}, {"scales": 1e4}, {"means": 1e5}])
def test_an_overflow_goes_back_once_with_half_the_rates_and_then_fails_by_name(tmp_path: Path, rates):
    splats = CONFIG.representation
    assert isinstance(splats, Splats)
    config = replace(CONFIG, steps=20, representation=replace(splats, rates=LearningRates(**rates)))
    happened = list(execute(tmp_path / "run", config, pictures=SMALL, checkpoint_every=5))
    warned = [event for event in happened if isinstance(event, Warned)]
    assert len(warned) == 1 and "half the learning rates" in warned[0].message
    assert isinstance(happened[-1], Failed) and isinstance(happened[-1].error, Diverged)
    assert read_record(tmp_path / "run").state == "failed"
