"""Which way imports point. A layer may import layers below it and modules of its own, never one above."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dreamsplat

ROOT = Path(dreamsplat.__file__).parent
LAYERS = [
    {"errors", "types", "maths", "files", "registry", "codec"},
    {"method", "hub"},
    {"render"},
    {"assets"},
    {"formats"},
    {"mesh"},
    {"world"},
    {"priors2d", "priors3d"},
    {"guidance", "representations"},
    {"config"},
    {"dream", "presets"},
    {"evaluate"},
    {"runs"},
    {"commands"},
    {"__init__", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
WITHIN = {"maths": {"errors", "types"}, "types": {"errors"}, "files": {"errors"}, "registry": {"errors", "codec"}}
WITHIN |= {"codec": {"errors", "registry"}}
"""Which neighbours of its layer a module may import, besides itself."""
LAZY = {"DracoPy", "accelerate", "diffusers", "fast_simplification", "gsplat", "gswarp", "huggingface_hub"}
LAZY |= {"imageio_ffmpeg", "manifold3d", "peft", "plyfile", "skimage", "transformers", "trimesh", "xatlas", "zstandard"}

NEVER = {"torchvision", "open_clip", "lpips"}
FILES = sorted(path for path in ROOT.rglob("*.py"))


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted names that a file imports when it runs, anywhere in it or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):  # What only a type checker reads is no import.
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    nodes = ast.walk(tree) if everywhere else tree.body
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it from dreamsplat"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "dreamsplat"
                else {node.module or ""}
            )
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    module = path.relative_to(ROOT).with_suffix("").parts[0]
    assert module in RANK, f"{module}: give the new module a layer"
    for name in imports(path):
        package, _, inner = name.partition(".")
        target = inner.split(".")[0]
        if package != "dreamsplat" or target in ("", "__version__", module):
            continue
        assert RANK[target] <= RANK[module], f"{module} imports {target}, which is above it"
        if RANK[target] == RANK[module]:
            assert target in WITHIN.get(module, set()), f"{module} may not know {target}"
        if module.startswith("priors") and target == "world":
            assert path.stem.split("_")[0] in ("bundled", "perfect"), f"{path.name} may not know the bundled world"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_are_imported_late_and_unwanted_ones_never(path):
    assert not {name.split(".")[0] for name in imports(path, everywhere=False)} & LAZY
    assert not {name.split(".")[0] for name in imports(path)} & NEVER


def test_the_architecture_page_shows_these_layers():
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = [set(line.split()) for line in page.partition("```\ncodec")[2].partition("```")[0].splitlines()]
    shown[0] |= {"codec"}
    assert shown == [layer for layer in LAYERS if "__main__" not in layer]


def test_the_specification_imports_no_kernel():
    assert imports(ROOT / "render" / "reference.py").isdisjoint(
        {"ctypes", "dreamsplat.render", "dreamsplat.render.cpu"}
    )


def test_the_root_holds_the_method_and_what_everything_needs():
    expected = {"__init__", "__main__", "codec", "config", "dream", "errors", "presets", "registry", "types"}
    assert {path.stem for path in ROOT.glob("*.py")} <= expected


WORLD_LAYERS = [{"camera_range", "language"}, {"header", "objects"}, {"nets"}, {"bundle", "data"}, {"training"}]
WORLD_RANK = {name: rank for rank, layer in enumerate(WORLD_LAYERS) for name in layer}


@pytest.mark.parametrize("path", sorted((ROOT / "world").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_within_the_world_point_down_too(path):
    """Words, then objects, then networks, then data and weights, then training."""
    part = path.relative_to(ROOT / "world").with_suffix("").parts[0]
    for name in imports(path):
        if name.startswith("dreamsplat.world."):
            target = name.split(".")[2]
            assert target == part or WORLD_RANK[target] < WORLD_RANK[part], f"{part} imports {target}"


@pytest.mark.parametrize(
    "module",
    [
        "dreamsplat.config",
        "dreamsplat.presets",
        "dreamsplat.world.camera_range",
        "dreamsplat.world.language.captions",
        "dreamsplat.runs.summary",
    ],
)
def test_settings_words_and_summaries_of_runs_load_without_torch(module):
    program = f"import sys, {module}; print(*{{'torch', 'diffusers', 'scipy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_files_are_short_enough_to_read():
    assert [f"{p.name}: {n}" for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 300] == []
