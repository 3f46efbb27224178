"""What `import dreamsplat` gives, and what it costs."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from importlib import import_module
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

PACKAGES = {
    "assets": {
        "BACKDROP", "FAINT", "Z_UP_TO_Y_DOWN", "Z_UP_TO_Y_UP", "Frames", "RadianceField", "ball_around", "bounds",
        "centred",
        "colours_towards", "contact_sheet", "draw", "draw_points", "extent", "importance", "in_ball", "in_box",
        "is_floater", "is_hidden", "is_oversized", "join", "merge", "merge_to_size", "moved", "painted", "picture_psnr",
        "positions", "prune", "recoloured", "render_asset", "rotated", "rows", "scaled", "solid_points", "turned",
        "visibility", "with_sh_degree",
    },
    "evaluate": {"AbstractScorer", "Looks"},
    "formats": {"FORMATS", "Format", "in_float32", "load", "read", "read_asset", "save"},
    "guidance": {
        "CSD", "ISM", "SDS", "SJC", "VSD", "AbstractLoss", "Conditions", "LossState", "ViewText", "describe",
        "every_prompt", "guided_denoise",
    },
    "mesh": {
        "MESH_WRITERS", "BakeSettings", "Mesh", "MeshSettings", "Patch", "Surface", "SurfaceSettings", "Texture",
        "mesh_of", "read_mesh", "sample_surface", "vertex_normals", "write_glb", "write_obj", "write_stl",
    },
    "method": {
        "NEGATIVE_PROMPT", "AnnealedTimes", "Background", "CameraRange", "ElevationSampling", "GradientClip", "Times",
        "grow_points", "initial_scales", "make_views", "orbit", "perturb_colours", "sample_views", "sigma_of_time",
        "time_of_sigma", "to_gaussians", "view_prompts", "view_word",
    },
    "priors2d": {
        "AbstractImagePrior", "AbstractImagePriorSpec", "AbstractSecondNetwork", "BundledImagePrior", "PerfectTeacher",
        "StableDiffusion",
    },
    "priors3d": {"AbstractCloudPrior", "AbstractCloudPriorSpec", "BundledCloudPrior", "FromFile", "GreyBall", "ShapE"},
    "render": {"BACKENDS", "Backend", "backend_choice", "render"},
    "representations": {
        "PAPER_RATES", "QUICK_SPLATS", "AbstractRepresentation", "AbstractRepresentationSpec", "DensifyConfig",
        "FieldRates", "LearningRates", "Lift", "Regularisers", "Splats", "VoxelField",
    },
    "runs": {
        "Checkpoint", "Event", "Failed", "Finished", "Owner", "Pictures", "Record", "Saved", "Started", "Stepped",
        "Stop", "Summary", "Warned", "execute", "find_runs", "holder", "newest_checkpoint", "read_checkpoint",
        "read_config", "read_record", "summarise",
    },
}  # fmt: skip
"""The public names of each public package."""

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


@pytest.mark.parametrize("package", PACKAGES)
def test_exactly_these_names_of_a_package_are_public_and_each_is_documented(package):
    module = import_module(f"dreamsplat.{package}")
    assert set(module.__all__) == PACKAGES[package] and len(module.__all__) == len(PACKAGES[package])
    assert (module.__doc__ or "").strip()
    for name in module.__all__:
        value = getattr(module, name)
        assert not inspect.ismodule(value), f"{name} is a module"
        assert not (inspect.isclass(value) or inspect.isfunction(value)) or (inspect.getdoc(value) or "").strip(), name


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
