"""Settings are checked where they are made: a bad one is refused by name before anything runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from math import inf, nan

import pytest

from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import CSD, ISM, SDS, SJC, VSD
from dreamsplat.method.schedule import GradientClip
from dreamsplat.representations import DensifyConfig, LearningRates, Lift

BAD: list[tuple[Callable[..., object], str, object]] = [
    *((loss, "guidance_scale", value) for loss in (SDS, SJC, CSD, ISM, VSD) for value in (-1.0, inf, nan)),
    *((loss, "rescale", value) for loss in (SDS, SJC, ISM, VSD) for value in (-0.1, 1.1, nan)),
    *((loss, "weighting", "heavy") for loss in (SDS, CSD, ISM, VSD)),
    (ISM, "stride", 0.0), (ISM, "strides", 0), (ISM, "interval", 0.0), (ISM, "interval", 2.0),
    (VSD, "rank", 0), (VSD, "learning_rate", 0.0), (VSD, "learning_rate", nan),
    (GradientClip, "steps", 0), (GradientClip, "first", -1.0), (GradientClip, "last", nan),
    (Lift, "candidates", -1), (Lift, "candidates", 10**9), (Lift, "radius", 0.0), (Lift, "radius", nan),
    (Lift, "colour_jitter", -0.1), (Lift, "max_points", -1), (Lift, "world_scale", 0.0),
    (Lift, "opacity", 1.5), (Lift, "sh_degree", 4), (Lift, "sh_degree", -1),
    (LearningRates, "scales", -1.0), (LearningRates, "means_final", 0.0), (LearningRates, "means_decay_steps", 0),
    (LearningRates, "quats", inf), (DensifyConfig, "every", 0), (DensifyConfig, "max_gaussians", 0),
    (DensifyConfig, "grad_threshold", nan), (DensifyConfig, "extent", -1.0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_a_setting_out_of_range_is_refused_by_name_with_what_came(kind, name, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        kind(**{name: value})
    assert caught.value.setting.split(".")[-1] in (name, "means")  # the two rates of the centres go together
    assert "expected" in caught.value.message and "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["dreamsplat.guidance", "dreamsplat.representations", "dreamsplat.config"])
def test_settings_are_read_without_waiting_for_torch(module: str) -> None:
    program = f"import sys, {module}; print(*{{'torch', 'scipy', 'diffusers', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
