"""`dreamsplat doctor`: what is installed and cached, which renderer is used and why, and whether it renders rightly."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

import dreamsplat
from dreamsplat.commands.flags import parse_flags
from dreamsplat.errors import MissingDependency
from dreamsplat.hub.cache import cached
from dreamsplat.hub.catalogue import KNOWN_MODELS, KnownModel
from dreamsplat.hub.optional import require
from dreamsplat.method.cameras import orbit
from dreamsplat.render import backend_choice, gsplat, render
from dreamsplat.types import Cameras, Gaussians
from dreamsplat.world.bundle import WEIGHTS, weight_hashes

PACKAGES = ("torch", "numpy", "scipy", "pillow", "safetensors", "tyro", "rich", "imageio-ffmpeg")
"""Distributions whose versions are printed."""
OPTIONAL_PACKAGES = {
    "diffusers": "diffusion",
    "transformers": "diffusion",
    "accelerate": "diffusion",
    "peft": "diffusion",
    "trimesh": "mesh",
    "gsplat": "gsplat",
}
"""Distributions that may be missing, and the extra that installs each."""
TOLERANCE = 1e-4
"""Largest error that passes: relative, in the L2 norm, against the reference in float64. A float32 renderer reaches
about 1e-6; the rest is room for a pixel that falls on the other side of the 1/255 threshold. gsplat has its own."""


@dataclass(frozen=True)
class Doctor:
    """Check this installation: versions, devices, renderer and a test of it, bundled weights, models in the cache."""


def doctor(arguments: Sequence[str]) -> int:
    """Print the report.

    Returns:
        0, or 1 if the self-test fails or the bundled weights are missing. Whatever is optional may be missing.
    """
    parse_flags(Doctor, arguments, "doctor")
    print(f"dreamsplat    {dreamsplat.__version__} at {Path(dreamsplat.__file__).parent}")
    print(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        print(f"{package:<13} {_version(package)}")
    for package, extra in OPTIONAL_PACKAGES.items():
        print(f"{package:<13} {_version(package, extra)}")
    devices = [torch.device("cpu")] + [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    print(f"cpu           {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    _report_cuda(devices[1:])
    healthy = all([_report_renderer(device) for device in devices])  # A list, so that each device is reported.
    complete = _report_weights()
    _report_models()
    return 0 if complete and healthy else 1


def self_test(backend: str, device: torch.device) -> dict[str, float]:
    """Errors of a renderer on a small scene against the reference in float64 on the CPU, by what was compared.

    The scene is 60 Gaussians of degree 1 seen by 2 cameras; images, and the gradients of a weighted sum of them, are
    compared in the relative L2 norm.
    """
    scene, cameras = _scene(), orbit(2, size=32).cameras
    expected = _images_and_gradients(scene.to(torch.float64), cameras.to(torch.float64), "reference")
    received = _images_and_gradients(scene.to(device), cameras.to(device), backend)
    return {name: float((received[name].cpu() - e).norm() / e.norm().clamp(min=1e-12)) for name, e in expected.items()}


def _scene() -> Gaussians:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return Gaussians(
        means=1.6 * draw(60, 3) - 0.8,
        scales=0.02 + 0.1 * draw(60, 3),
        quats=draw(60, 4) - 0.5,
        opacities=0.1 + 0.8 * draw(60),
        sh=draw(60, 4, 3) - 0.5,
    )


def _images_and_gradients(scene: Gaussians, cameras: Cameras, backend: str) -> dict[str, Tensor]:
    names = ("means", "scales", "quats", "opacities", "sh")
    leaves = {name: getattr(scene, name).clone().requires_grad_() for name in names}
    result = render(Gaussians(**leaves), cameras, background=(0.2, 0.4, 0.6), backend=backend)
    images = {"rgb": result.rgb, "alpha": result.alpha, "depth": result.depth}
    generator = torch.Generator().manual_seed(8)
    weights = [torch.rand(image.shape, generator=generator).to(image) for image in images.values()]
    total = sum((image * weight).sum() for image, weight in zip(images.values(), weights, strict=True))
    assert isinstance(total, Tensor), "there are three images"
    gradients = torch.autograd.grad(total, list(leaves.values()))
    named = {f"gradient of {name}": gradient for name, gradient in zip(names, gradients, strict=True)}
    return {name: value.detach().double() for name, value in (images | named).items()}


def _report_cuda(devices: Sequence[torch.device]) -> None:
    if torch.version.cuda is None:
        print("cuda          torch is built without CUDA")
        return
    print(f"cuda          torch is built for CUDA {torch.version.cuda}, driver {_driver()}, {len(devices)} devices")
    for device in devices:
        properties = torch.cuda.get_device_properties(device)
        memory = f"{properties.total_memory / 2**30:.1f} GiB"
        print(f"{device!s:<13} {properties.name}, {memory}, compute capability {properties.major}.{properties.minor}")
    usable, reason = gsplat.available()
    verdict = "renders a known scene as the reference does" if usable else "not used"
    print(f"gsplat        {verdict} ({reason})")


def _driver() -> str:
    """The version of NVIDIA's driver, by the tool that comes with it; torch does not tell."""
    command = [shutil.which("nvidia-smi") or "nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        told = []
    return told[0] if told else "unknown (nvidia-smi does not tell)"


def _report_renderer(device: torch.device) -> bool:
    name, reason = backend_choice(device)
    print(f"renderer      {device}: {name} ({reason})")
    errors = self_test(name, device)
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    allowed = gsplat.TOLERANCE if name == "gsplat" else TOLERANCE
    passed = errors[worst] <= allowed
    verdict = "PASS" if passed else "FAIL"
    print(f"self-test     {verdict}: largest relative error {errors[worst]:.1e} ({worst}), allowed {allowed:.0e}")
    return passed


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
            print(f"model         yours to download, about {model.download_gb:g} GB: {about}")
        else:
            missing.append(model)
            print(f"model         not cached, about {model.download_gb:g} GB: {about}")
    needed_gb = sum(model.download_gb for model in missing)
    print(f"disk          about {needed_gb:.1f} GB for all {len(missing)} that are not cached{_free_disk()}")


def _cached(model: KnownModel) -> Path | None:
    try:
        return cached(model.id)
    except MissingDependency:
        return None  # Without huggingface_hub nothing was ever fetched.


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
