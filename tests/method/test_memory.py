"""A step that runs out of memory is undone before it is repeated with half the views."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from analytic import LearningPrior
from small_run import CONFIG

from dreamsplat import dream_steps
from dreamsplat.guidance import SDS, VSD
from dreamsplat.representations.splat_model import SplatModel
from dreamsplat.types import Step

FULL_AT = 4
"""The step whose memory runs out."""


def run_out_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise once, after the optimiser's update of a step, where densification would need more memory."""
    adapt, raised = SplatModel.adapt, []

    def full(self: SplatModel, step: int, generator: torch.Generator) -> None:
        if step == FULL_AT and not raised:
            raised.append(step)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        adapt(self, step, generator)

    monkeypatch.setattr(SplatModel, "adapt", full)


def updates(step: Step) -> int:
    return int(step.snapshot["representation.params.updates"])


@pytest.mark.parametrize("loss", [SDS(guidance_scale=1.0), VSD(guidance_scale=1.0)])
def test_a_step_that_fails_after_its_update_leaves_no_trace(loss: SDS | VSD, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, loss=loss, prior2d=LearningPrior(mean=0.8, spread=0.3), views=4, steps=8)
    before = next(step for step in dream_steps(config) if step.index == FULL_AT).snapshot
    halved = before | {"views": torch.tensor(2)}
    expected = list(dream_steps(config, halved))

    run_out_late(monkeypatch)
    steps = list(dream_steps(config))
    assert [(step.index, updates(step)) for step in steps] == [(index, index) for index in range(9)]
    assert [step.metrics["views"] for step in steps[1:]] == [4] * FULL_AT + [2] * 4
    for name, tensor in expected[-1].snapshot.items():
        assert torch.equal(tensor, steps[-1].snapshot[name]), name
    assert expected[-1].metrics == steps[-1].metrics
