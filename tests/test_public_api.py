"""What `import dreamsplat` gives, and what it costs."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import dreamsplat

PUBLIC = {
    "PRESETS", "AbstractAsset", "Cameras", "DreamConfig", "Gaussians", "PointCloud", "Rendering", "Step", "Views",
    "dream", "dream_steps", "load", "make_views", "orbit", "render", "save",
    "DeviceUnavailable", "Diverged", "DreamsplatError", "FileProblem", "InvalidInput", "MissingDependency",
    "UnknownWord",
}  # fmt: skip

HEAVY = {"diffusers", "huggingface_hub", "imageio_ffmpeg", "peft", "scipy", "skimage", "transformers", "trimesh"}
HEAVY |= {"rich", "tyro"}
"""What takes long to import, and is used by few."""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exactly_these_names_are_public():
    assert set(dreamsplat.__all__) == PUBLIC and len(dreamsplat.__all__) == len(PUBLIC)
    assert all(getattr(dreamsplat, name) is not None for name in PUBLIC)
    assert set(dir(dreamsplat)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"PRESETS"}))
def test_every_public_name_is_documented(name):
    value = getattr(dreamsplat, name)
    assert (inspect.getdoc(value) or "").splitlines()[:1] not in ([], [""])
    if dataclasses.is_dataclass(value):
        source = inspect.getsource(value)
        for field in value.__dataclass_fields__:
            if field in value.__annotations__:
                documented = source.split(f"    {field}: ", 1)[1].split("\n", 1)[1].lstrip().startswith('"""')
                assert documented, f"{name}.{field} has no docstring below it"


@pytest.mark.parametrize("first", ["dreamsplat.render.reference", "dreamsplat.dream", "dreamsplat.commands"])
def test_dream_and_render_are_functions_whatever_was_imported_first(first):
    program = (
        f"import {first}, inspect, dreamsplat as d; from dreamsplat import render; import dreamsplat.render;"
        "import dreamsplat.dream;"
        "print([inspect.isfunction(f) for f in (render, d.render, d.dream, d.dream_steps)])"
    )
    assert python(program).strip() == str([True] * 4)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="generate_asset"):
        dreamsplat.generate_asset  # noqa: B018


def test_importing_the_package_imports_nothing_else_and_its_names_nothing_heavy():
    loaded = python("import dreamsplat, sys; print(*(m for m in sys.modules if m.startswith('dreamsplat.')))").split()
    assert loaded == []
    every = "import sys; from dreamsplat import *; print(*sys.modules)"
    assert not set(python(every).split()) & HEAVY


def test_the_version_is_that_of_the_installed_package():
    try:
        assert version("dreamsplat") == dreamsplat.__version__
    except PackageNotFoundError:
        pytest.skip("run from the source tree")


def test_the_package_is_marked_as_typed():
    assert (Path(dreamsplat.__file__).parent / "py.typed").exists()
