"""The judge: that the shipped one is good, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dreamsplat.errors import FileProblem
from dreamsplat.evaluate.judge import (
    JUDGE_SEED,
    REFERENCE_SEED,
    TEST_SEED,
    Judge,
    Verdict,
    azimuth_class,
    measure_judge,
    read_judge,
    spoil,
    write_judge,
)
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES

SHIPPED = Path(__file__).parents[2] / "benchmarks" / "judge.safetensors"


def test_the_shipped_judge_is_right_about_objects_it_never_saw() -> None:
    # A dozen objects from eight sides: chance alone can cost a few of the 96 pictures, and of the 56 with a front.
    right = measure_judge(read_judge(SHIPPED), instances=1, views=8)
    assert right["category"] > 0.94 and right["colour"] > 0.94 and right["azimuth"] > 0.8


def test_sectors_are_centred_on_multiples_of_45_degrees() -> None:
    degrees = torch.tensor([0.0, 22.0, 23.0, 45.0, 180.0, -180.0, -45.0, -22.0, 337.0, 338.0])
    assert azimuth_class(degrees).tolist() == [0, 0, 1, 1, 4, 4, 7, 0, 7, 0]


def test_a_caption_scores_the_evidence_of_all_views_for_both_its_words() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = (len(CATEGORY_NAMES), len(COLOUR_NAMES), 8)
    category, colour, azimuth = (torch.randn(3, n, generator=generator).log_softmax(1) for n in sizes)
    fit = Verdict(category, colour, azimuth).captions()
    assert fit.shape == (10, 12)
    assert fit[4, 7].item() == pytest.approx(float(colour[:, 4].sum() + category[:, 7].sum()))


def test_spoiling_keeps_pictures_in_range_and_depends_on_nothing_but_its_generator() -> None:
    z = torch.rand(5, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 2
    before = torch.get_rng_state()
    first, again = (spoil(z, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, z)
    assert first.shape == z.shape and 0 <= float(first.min()) and float(first.max()) <= 2


def test_a_judge_survives_its_file_but_for_half_precision(tmp_path: Path) -> None:
    judge, z = Judge(), torch.rand(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    write_judge(judge, tmp_path / "o.safetensors", {"seconds": 1.0})
    read = read_judge(tmp_path / "o.safetensors")
    assert torch.allclose(read.verdict(z).category, judge.verdict(z).category, atol=0.01)
    assert not any(p.requires_grad for p in read.parameters())


@pytest.mark.parametrize("content", [None, b"", b"not a judge at all"])
def test_a_file_that_is_no_judge_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "o.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"o\.safetensors: not a judge"):
        read_judge(path)


def test_the_objects_of_the_judge_are_nobody_elses() -> None:
    # torch's generator takes seeds modulo 2^32, so a larger seed would not be a new one.
    repeated = (torch.rand(3, generator=torch.Generator().manual_seed(s)) for s in (1, 1 + 2**32))
    assert torch.equal(*repeated)
    seeds = {JUDGE_SEED, TEST_SEED, REFERENCE_SEED}
    assert len(seeds) == 3 and all(3_999_999_999 < seed < 2**32 for seed in seeds)
