"""The ablations: that each row changes one thing, and what the table calls noise."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from dreamsplat.errors import InvalidInput

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import ablations  # noqa: E402
import report  # noqa: E402


def test_every_row_but_the_baselines_is_another_run_that_the_method_accepts(tmp_path: Path) -> None:
    rows = dict(ablations.ROWS)
    for config in rows.values():
        dataclasses.replace(config, prompt="a red mug").check()
    base = rows.pop(ablations.BASELINE)
    assert [name for name, config in rows.items() if config == base] == [ablations.OTHER_SEEDS]
    assert len({ablations.folder(tmp_path, name) for name in rows}) == len(rows)


def write_row(out: Path, name: str, chamfers: dict[int, float]) -> None:
    folder = ablations.folder(out, name)
    folder.mkdir()
    score = {"rank": 1, "views_right": 1.0, "colour_error": 0.01, "view_agreement": 1.0}
    results = [
        {
            "prompt": "a red mug",
            "seed": s,
            "seconds": 9.0,
            "method": score | {"chamfer": c},
            "prior": score | {"chamfer": 2},
        }
        for s, c in chamfers.items()
    ]
    (folder / report.RUN).write_text(json.dumps({"machine": "m", "commit": "c", "date": "d", "command": "x"}))
    (folder / report.RESULTS).write_text("".join(json.dumps(result) + "\n" for result in results))


def test_only_what_differs_by_more_than_the_baselines_seeds_do_is_bold(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ablations, "write_sheet", lambda *_: None)
    write_row(tmp_path, ablations.BASELINE, {0: 1.2, 1: 1.3})
    write_row(tmp_path, ablations.OTHER_SEEDS, {2: 1.1, 3: 1.2})
    write_row(tmp_path, "guidance 5", {0: 1.4, 1: 1.48})  # 0.19 above the baseline, whose seeds lie 0.2 apart
    write_row(tmp_path, "guidance 20", {0: 1.4, 1: 1.6})
    ablations.report(tmp_path)
    lines = [line.split("|") for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    chamfer = {cells[1].strip(): cells[6].strip() for cells in lines}
    assert chamfer[""] == "Chamfer"
    assert chamfer["baseline"] == "1.25 ± 0.05" and chamfer["guidance 5"] == "1.44 ± 0.04"
    assert chamfer["guidance 20"] == "**1.50 ± 0.10**" and chamfer["3D prior alone"] == "**2.00**"
    assert next(value for name, value in chamfer.items() if name.startswith("*noise")) == "0.200"


def test_a_row_that_does_not_exist_is_named_and_a_table_needs_its_baseline(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such row"):
        ablations.run(ablations.Ablations(tmp_path, rows=("nonsense",)), "the command")
    with pytest.raises(InvalidInput, match="no baseline"):
        ablations.report(tmp_path)
