from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dreamsplat import AbstractAsset, Gaussians, InvalidInput, Step
from dreamsplat.assets import BACKDROP, render_asset
from dreamsplat.method.cameras import orbit


@dataclass(frozen=True, eq=False)
class Fog(AbstractAsset):
    """An asset of a kind that nobody has added a renderer for."""

    density: Tensor

    @property
    def size(self) -> str:
        return "a fog"

    def gaussians(self) -> Gaussians:
        raise NotImplementedError


FOG = Fog(torch.ones(2, 2))


def test_an_asset_of_an_unknown_kind_is_refused_with_the_way_to_add_it():
    with pytest.raises(InvalidInput, match="Fog") as refused:
        render_asset(FOG, orbit(1, size=8).cameras, BACKDROP)
    assert "render_asset.register" in refused.value.advice


def test_a_step_has_gaussians_only_where_the_run_makes_them():
    step = Step("lift", 0, 1, FOG, None, None, {}, {})
    with pytest.raises(InvalidInput, match="makes a Fog"):
        _ = step.gaussians
