"""Text to 3D Gaussians: the GaussianDreamer method, end to end, on any machine.

    import dreamsplat

    config = dreamsplat.DreamConfig(prompt="a red mushroom", seed=0)
    asset = dreamsplat.dream(config)                                   # Gaussians, about a minute on two cores
    dreamsplat.save(asset, "mushroom.ply")
    images = dreamsplat.render(asset, dreamsplat.orbit(8).cameras).rgb  # [8, 256, 256, 3]

Everything below is public, and nothing else is. Names are looked up on first use, so that `dreamsplat --help` does not
wait for torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig
    from dreamsplat.dream import dream, dream_steps
    from dreamsplat.formats import load, save
    from dreamsplat.method.cameras import orbit
    from dreamsplat.presets import PRESETS
    from dreamsplat.render import render
    from dreamsplat.types import Cameras, Gaussians, PointCloud, Rendering, Step, Views

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "Cameras",
    "DreamConfig",
    "Gaussians",
    "PointCloud",
    "Rendering",
    "Step",
    "Views",
    "dream",
    "dream_steps",
    "load",
    "orbit",
    "render",
    "save",
]

_HOMES = {
    "dreamsplat.method.cameras": ("orbit",),
    "dreamsplat.config": ("DreamConfig",),
    "dreamsplat.dream": ("dream", "dream_steps"),
    "dreamsplat.formats": ("load", "save"),
    "dreamsplat.presets": ("PRESETS",),
    "dreamsplat.render": ("render",),
    "dreamsplat.types": ("Cameras", "Gaussians", "PointCloud", "Rendering", "Step", "Views"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'dreamsplat' has no attribute '{name}'. Public names: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """Keeps the functions `dream` and `render` in place when the modules of the same names are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds each submodule to its parent. Without this, `import dreamsplat.render` anywhere would
        # turn `dreamsplat.render` from the function into the module, depending on who was imported first.
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
