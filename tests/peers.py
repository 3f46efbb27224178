"""Programs of others that read and write the same files: PlayCanvas's splat-transform and three.js, run by Node.

`make peers` installs them once; the tests need no network. Without them these tests are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "tools" / "peers"
_COMMAND = FOLDER / "node_modules" / "@playcanvas" / "splat-transform" / "bin" / "cli.mjs"
_TIMEOUT_S = 120

needs_peers = pytest.mark.skipif(
    shutil.which("node") is None or not _COMMAND.is_file(),
    reason="needs Node 20 or newer and `make peers`",
)
"""Mark of tests that call `splat_transform` or `node`."""


def splat_transform(*args: str | Path) -> str:
    """Run `splat-transform -w -g cpu ...` (inputs, actions, output; paths absolute) and return what it printed."""
    return _run([str(_COMMAND), "-w", "-g", "cpu", *map(str, args)])


def node(script: str, *args: str | Path) -> str:
    """Run the source text of a JavaScript module and return what it printed.

    Packages of tools/peers can be imported by name, `await` works at the top level, and `args` are
    `process.argv.slice(1)`.
    """
    return _run(["--input-type=module", "--eval", script, "--", *map(str, args)])


def _run(command: list[str]) -> str:
    done = subprocess.run(["node", *command], cwd=FOLDER, capture_output=True, text=True, timeout=_TIMEOUT_S)
    assert done.returncode == 0, f"node failed with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
