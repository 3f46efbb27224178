"""The notebook runs from top to bottom, and every stage has a picture."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


def result_of(source: str, names: dict[str, Any]) -> object:
    """Run a cell as a notebook does: the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_every_cell_runs_and_each_stage_shows_a_picture_that_the_file_holds_too():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 15
    names: dict[str, Any] = {}
    pictures = 0
    for cell in code:
        source = re.sub(r"steps=(\d)0\b", r"steps=\1", "".join(cell["source"]))
        result = result_of(source, names)
        if isinstance(result, Image.Image):
            pictures += 1
            assert len(set(result.convert("L").tobytes())) > 20, "an empty picture"
            assert any("image/png" in output.get("data", {}) for output in cell["outputs"])
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    assert pictures >= 12
