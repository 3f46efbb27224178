"""The report of `dreamsplat doctor`: what is installed and cached, which renderer is used and why, whether it works."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import dreamsplat
from dreamsplat.errors import MissingDependency
from dreamsplat.hub.cache import cached
from dreamsplat.hub.catalogue import KNOWN_MODELS, KnownModel
from dreamsplat.hub.optional import require
from dreamsplat.method.devices import cuda_is_idle
from dreamsplat.render import BACKENDS, backend_choice, render, selftest
from dreamsplat.world.bundle import WEIGHTS, weight_hashes

PACKAGES = ("torch", "numpy", "scipy", "pillow", "safetensors", "tyro", "rich", "imageio-ffmpeg")
"""Packages whose versions are printed."""
OPTIONAL_PACKAGES = {
    "diffusers": "diffusion",
    "transformers": "diffusion",
    "accelerate": "diffusion",
    "peft": "diffusion",
    "trimesh": "mesh",
    "DracoPy": "mesh",
    "scikit-image": "mesh",
    "fast-simplification": "mesh",
    "manifold3d": "mesh",
    "xatlas": "mesh",
    "gsplat": "gsplat",
    "gswarp": "gswarp",
}
"""Packages that may be missing, and the extra that installs each."""


def report() -> bool:
    """Print what is installed; returns whether the renderer passes its self-test and the bundled weights are there."""
    print(f"dreamsplat    {dreamsplat.__version__} at {Path(dreamsplat.__file__).parent}")
    print(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        print(f"{package:<13} {_version(package)}")
    for package, extra in OPTIONAL_PACKAGES.items():
        print(f"{package:<13} {_version(package, extra)}")
    devices = [torch.device("cpu")] + [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    print(f"cpu           {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    _report_cuda(devices[1:])
    healthy = all([_report_renderer(device) for device in devices])  # A list, so that every device is reported.
    complete = _report_weights()
    _report_models()
    return complete and healthy


def _report_cuda(devices: Sequence[torch.device]) -> None:
    if torch.version.cuda is None:
        print(f"cuda          torch is built without CUDA. {cuda_is_idle()}".rstrip())
        return
    if not devices and (advice := cuda_is_idle()):
        print(f"cuda          {advice}")
    count = f"{len(devices)} device{'' if len(devices) == 1 else 's'}"
    print(f"cuda          torch is built for CUDA {torch.version.cuda}, driver {_driver()}, {count}")
    for device in devices:
        properties = torch.cuda.get_device_properties(device)
        memory = f"{properties.total_memory / 2**30:.1f} GiB"
        print(f"{device!s:<13} {properties.name}, {memory}, compute capability {properties.major}.{properties.minor}")
    for name, backend in BACKENDS.items():
        if "cuda" in backend.devices:
            usable, reason = backend.available()
            print(f"{name:<13} {'can render' if usable else 'not used'} ({reason})")


def _driver() -> str:
    """The version of NVIDIA's driver, from the tool that comes with it; torch does not provide it."""
    command = [shutil.which("nvidia-smi") or "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        words = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        words = []
    return words[0] if words else "unknown (from nvidia-smi)"


def _report_renderer(device: torch.device) -> bool:
    name, reason = backend_choice(device)
    print(f"renderer      {device}: {name} ({reason})")
    what, error = selftest.worst(selftest.errors(_renderer(name), device))
    allowed = BACKENDS[name].tolerance
    passed = error <= allowed
    verdict = "PASS" if passed else "FAIL"
    print(f"self-test     {verdict}: largest relative error {error:.1e} ({what}), allowed {allowed:.0e}")
    return passed


def _renderer(backend: str) -> selftest.Renderer:
    return lambda gaussians, cameras, background, offsets: render(
        gaussians, cameras, background=background, screen_offsets=offsets, backend=backend
    )


def _report_weights() -> bool:
    hashes = weight_hashes()
    for name, digest in hashes.items():
        print(f"weights       {name} {(WEIGHTS / name).stat().st_size / 1e6:.1f} MB sha256 {digest}")
    if not hashes:
        print(f"weights       MISSING in {WEIGHTS}: reinstall dreamsplat, or run `dreamsplat train-world`")
    return bool(hashes)


def _report_models() -> None:
    missing: list[KnownModel] = []
    for model in KNOWN_MODELS:
        folder = _cached(model)
        about = f"{model.id}: {model.purpose}; {model.licence}"
        if folder is not None:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"model         cached, {size / 1e9:.1f} GB: {about}; {folder}")
        elif not model.fetched:
            print(f"model         must be downloaded by hand, about {model.download_gb:g} GB: {about}")
        else:
            missing.append(model)
            print(f"model         not cached, about {model.download_gb:g} GB: {about}")
    needed_gb = sum(model.download_gb for model in missing)
    print(f"disk          about {needed_gb:.1f} GB for the {len(missing)} models that are not cached{_free_disk()}")


def _cached(model: KnownModel) -> Path | None:
    try:
        return cached(model.id)
    except MissingDependency:
        return None  # Without huggingface_hub nothing can be cached.


def _free_disk() -> str:
    try:
        folder = Path(require("huggingface_hub.constants", "diffusion").HF_HUB_CACHE)
    except MissingDependency:
        return ""
    existing = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), None)
    return f"; {shutil.disk_usage(existing).free / 1e9:.1f} GB free at {folder}" if existing else ""


def _version(package: str, extra: str = "") -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f'not installed; pip install "dreamsplat[{extra}]"' if extra else "not installed"
