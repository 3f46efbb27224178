"""The quality benchmark: what it says of objects whose worth is known."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path

import pytest
import torch

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.evaluate.judge import Judge, read_judge
from dreamsplat.priors2d import BundledImagePrior, PerfectTeacher
from dreamsplat.types import Gaussians
from dreamsplat.world.language.captions import held_out_pairs, parse_caption
from dreamsplat.world.objects.draw_object import draw_object

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import metrics  # noqa: E402
import quality  # noqa: E402
import report  # noqa: E402

FEW = 6
"""Real objects to compare shapes with: fewer than the benchmark's, to be quick."""
score = functools.partial(metrics.score, real_objects=FEW)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return read_judge(quality.JUDGE)


def real(prompt: str, seed: int = 0) -> Gaussians:
    return draw_object(parse_caption(prompt), torch.Generator().manual_seed(4_100_000_000 + seed))


@pytest.mark.parametrize("prompt", ["a blue car", "a red mug", "a yellow duck"])
def test_a_real_object_scores_as_well_as_can_be(judge: Judge, prompt: str) -> None:
    got = score(real(prompt), prompt, judge)
    assert got.rank == 1 and got.read_as == prompt and got.colour_right and got.views_right >= 0.75
    assert got.colour_error < 0.08
    assert got.view_agreement is None if "mug" in prompt else (got.view_agreement or 0) >= 0.75
    assert 0.6 < got.chamfer < 1.5


def test_an_object_is_not_retrieved_by_the_caption_of_another(judge: Judge) -> None:
    got = score(real("a blue car"), "a red duck", judge)
    assert got.rank > 10 and got.read_as == "a blue car" and not got.colour_right
    assert got.colour_error > 0.2 and got.chamfer > 2


def test_a_second_face_shows_in_the_view_agreement(judge: Judge) -> None:
    duck = real("a yellow duck")
    front = duck.means[:, 1] < 0
    halves = [getattr(duck, f.name)[front] for f in dataclasses.fields(duck)]
    turned = duck.means[front] * torch.tensor([-1.0, -1.0, 1.0])  # half a turn about the vertical; the blobs are round
    two_faced = Gaussians(*(torch.cat([half, turned if i == 0 else half]) for i, half in enumerate(halves)))
    one, two = (score(g, "a yellow duck", judge).view_agreement for g in (duck, two_faced))
    assert one is not None and two is not None and two <= one - 0.25


def test_a_shrunken_or_invisible_object_is_far_from_real_ones() -> None:
    car = real("a blue car")
    small = dataclasses.replace(car, means=0.7 * car.means, scales=0.7 * car.scales)
    invisible = dataclasses.replace(car, opacities=torch.zeros(len(car)))
    for asset in (small, invisible):
        assert metrics.relative_chamfer(metrics.visible_points(asset, "x"), "car", FEW) > 1.5


def test_faint_gaussians_are_no_part_of_a_shape() -> None:
    car = real("a blue car")
    haze = dataclasses.replace(car, means=car.means + 5, opacities=torch.full((len(car),), 0.04))
    both = Gaussians(*(torch.cat([getattr(g, f.name) for g in (car, haze)]) for f in dataclasses.fields(car)))
    assert float(metrics.visible_points(both, "x").max()) < 1.5


def test_every_dozen_of_the_mixed_order_holds_all_categories_and_all_colours() -> None:
    pairs = metrics.ordered_pairs()
    assert len(set(pairs)) == 120
    for start in range(0, 120, 12):
        colours, categories = zip(*pairs[start : start + 12], strict=True)
        assert len(set(colours)) == 10 and len(set(categories)) == 12


def test_sets_of_prompts_share_nothing_and_leave_nothing_out() -> None:
    trained, held_out = metrics.prompts_of("trained"), metrics.prompts_of("held-out")
    assert len(trained) == 108 and len(held_out) == len(held_out_pairs()) == 12
    assert set(trained) | set(held_out) == set(metrics.prompts_of("all"))
    assert metrics.prompts_of("all", 5) == metrics.prompts_of("all")[:5]


REAL = functools.partial(quality.Quality, subject="real", limit=2)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run over two real objects."""
    monkeypatch.setattr(quality, "score", score)
    quality.run(REAL(out=tmp_path), "the command")
    return tmp_path


def test_a_run_goes_on_where_it_stopped_and_can_be_scored_again(finished: Path) -> None:
    path = finished / report.RESULTS
    whole = path.read_text()
    path.write_text(whole.splitlines(keepends=True)[0])
    quality.run(REAL(out=finished), "the command")

    def timeless(text: str) -> list[dict]:
        return [json.loads(line) | {"seconds": 0} for line in text.splitlines()]

    assert timeless(path.read_text()) == timeless(whole)
    quality.rescore(finished)
    assert timeless(path.read_text()) == timeless(whole)
    quality.report(finished)
    assert (finished / "sheet-01.png").is_file() and "the command" in (finished / "table.md").read_text()


def test_results_of_other_settings_do_not_join_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "weights", lambda config: {})
    config = quality.Quality().method()
    for prompt in ("a red mug", "a blue car"):
        quality.open_folder(tmp_path, "method", dataclasses.replace(config, prompt=prompt), "the command")
    with pytest.raises(InvalidInput, match="other settings"):
        quality.open_folder(tmp_path, "method", dataclasses.replace(config, steps=7), "another command")
    with pytest.raises(InvalidInput, match="other settings"):
        quality.open_folder(tmp_path, "real", config, "another command")


def test_short_options_reach_the_method() -> None:
    asked = quality.Quality(steps=7, guidance_scale=3.5, view="words").method()
    assert asked.steps == 7 and asked.loss.guidance_scale == 3.5
    assert isinstance(asked.prior2d, BundledImagePrior) and asked.prior2d.view == "words"
    assert isinstance(quality.Quality(teacher="perfect").method().prior2d, PerfectTeacher)
    with pytest.raises(InvalidInput, match="view: only the bundled"):
        quality.Quality(teacher="perfect", view="words").method()


def write_run(folder: Path, results: list[dict]) -> Path:
    folder.mkdir()
    told = {"machine": "m", "commit": "c", "date": "d", "command": "x"}
    (folder / report.RUN).write_text(json.dumps(told))
    (folder / report.RESULTS).write_text("".join(json.dumps(r) + "\n" for r in results))
    return folder


def result(prompt: str, held_out: bool, rank: int, prior_rank: int, agreement: float | None) -> dict:
    common = {"read_as": prompt, "colour_right": True, "colour_error": 0.1, "views_right": 0.5, "chamfer": 1.25}
    common["view_agreement"] = agreement
    scores = {"method": common | {"rank": rank}, "prior": common | {"rank": prior_rank}}
    return {"prompt": prompt, "seed": 0, "held_out": held_out, "seconds": 30.0} | scores


def test_the_table_has_a_row_per_run_and_keeps_held_out_pairs_apart(tmp_path: Path) -> None:
    results = [
        result("a red car", False, 1, 9, 1.0),
        result("a blue mug", False, 2, 9, None),
        result("a red mug", True, 1, 1, None),
    ]
    a, b = write_run(tmp_path / "a", results), write_run(tmp_path / "b", results[:1])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.table([a, b]).splitlines()[:5]]
    by_name = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    assert by_name["3D prior alone"]["R-precision"] == "0.00 / 1.00"
    assert by_name["a"]["R-precision"] == "0.50 / 1.00" and by_name["a"]["assets"] == "2 / 1"
    assert by_name["a"]["view agreement"] == "1.00 / -" and by_name["b"]["R-precision"] == "1.00 / -"


def test_the_last_line_of_an_asset_counts_and_a_broken_line_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [result("a red car", False, rank, 1, None) for rank in (5, 1)])
    assert [r["method"]["rank"] for r in report.read_results(folder)] == [1]
    with (folder / report.RESULTS).open("a") as file:
        file.write('{"prompt": "a re')
    with pytest.raises(FileProblem, match="line 3 is not a result"):
        report.read_results(folder)
