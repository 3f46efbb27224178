"""What a benchmark run shows: the table, the contact sheets, and where the numbers come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreamsplat.assets.draw import draw
from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.errors import FileProblem
from dreamsplat.formats import read_asset
from dreamsplat.formats.png import write_png
from dreamsplat.method.cameras import orbit

RESULTS, RUN = "results.jsonl", "run.json"
ROWS_PER_SHEET = 12
AZIMUTHS = 6

Result = dict[str, Any]
"""One line of results.jsonl."""

COLUMNS: dict[str, Callable[[Result, Result], float | None]] = {
    "R-precision": lambda _, score: float(score["rank"] == 1),
    "single views": lambda _, score: score["views_right"],
    "colour": lambda _, score: float(score["colour_right"]),
    "colour error": lambda _, score: score["colour_error"],
    "view agreement": lambda _, score: score["view_agreement"],
    "Chamfer": lambda _, score: score["chamfer"],
    "seconds": lambda result, _: result["seconds"],
    "assets": lambda result, _: 1.0,
}
"""Column -> a number of one asset, from its result and its score; None where the asset has none."""


def read_results(folder: Path) -> list[Result]:
    """All results of a run so far; the last line counts where one asset has several. None yet is an empty list."""
    if not (folder / RESULTS).is_file():
        return []
    latest: dict[tuple[str, int], Result] = {}
    for number, line in enumerate((folder / RESULTS).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            result = json.loads(line)
            latest[result["prompt"], result["seed"]] = result
        except (ValueError, KeyError) as error:
            raise FileProblem(f"{folder / RESULTS}: line {number} is not a result ({error}). Remove it.") from error
    return list(latest.values())


def table(folders: Sequence[Path]) -> str:
    """The markdown table of one or more runs: the 3D prior alone (of the first run), then each run's assets.

    Cells are means over the assets: of trained pairs / of held-out pairs.
    """
    runs = {folder: read_results(folder) for folder in folders}
    for folder, results in runs.items():
        if not results:
            raise FileProblem(f"{folder}: no results. Expected a folder that benchmarks/quality.py wrote.")
    lines = [f"| trained / held-out | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    first = runs[folders[0]]
    if all(result["prior"] for result in first):
        lines.append(_row("3D prior alone", first, "prior"))
    lines += [_row(folder.name, results, "method") for folder, results in runs.items()]
    notes = []
    for folder in folders:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        origin = ", ".join(run[key] for key in ("machine", "date"))
        notes.append(f"- {folder.name}: {origin}, commit {run['commit']}: `{run['command']}`")
    return "\n".join([*lines, "", *notes, ""])


def _row(label: str, results: Sequence[Result], subject: str) -> str:
    cells = []
    for name, number in COLUMNS.items():
        if name == "seconds" and subject == "prior":
            cells.append("-")
            continue
        halves = []
        for held_out in (False, True):
            chosen = [number(r, r[subject]) for r in results if r["held_out"] == held_out]
            numbers = [n for n in chosen if n is not None]
            halves.append(_show(name, numbers) if numbers else "-")
        cells.append(" / ".join(halves))
    return f"| {label} | {' | '.join(cells)} |"


def _show(name: str, numbers: list[float]) -> str:
    if name == "assets":
        return f"{len(numbers)}"
    mean = sum(numbers) / len(numbers)
    return f"{mean:.0f}" if name == "seconds" else f"{mean:.2f}"


def write_sheets(folder: Path) -> list[Path]:
    """Contact sheets of a run's assets, 12 to a sheet, 6 azimuths; labels say what the judge misread."""
    results = read_results(folder)
    views = orbit(AZIMUTHS, size=96)
    paths = []
    for start in range(0, len(results), ROWS_PER_SHEET):
        rows = []
        for result in results[start : start + ROWS_PER_SHEET]:
            read_as = result["method"]["read_as"]
            label = f"{result['prompt']}, seed {result['seed']}"
            label += "" if read_as == result["prompt"] else f"\nread as {read_as}"
            rows.append((label, draw(read_asset(folder / result["asset"]), views.cameras)))
        path = folder / f"sheet-{start // ROWS_PER_SHEET + 1:02d}.png"
        write_png(contact_sheet(rows, [f"{azimuth:.0f} degrees" for azimuth in views.azimuth_deg % 360]), path)
        paths.append(path)
    return paths
