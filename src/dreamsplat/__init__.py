"""Text to 3D Gaussians: the GaussianDreamer method, end to end, on any machine.

    import dreamsplat

    config = dreamsplat.DreamConfig(prompt="a red mushroom", seed=0)
    asset = dreamsplat.dream(config)                                   # Gaussians
    dreamsplat.save(asset, "mushroom.ply")
    images = dreamsplat.render(asset, dreamsplat.orbit(8).cameras).rgb  # [8, 256, 256, 3]

The names of `__init__.pyi` are public, and so are those that the subpackages list in theirs: `guidance` (losses),
`priors2d`, `priors3d`, `representations`, `method` (cameras, schedules), `render`, `assets`, `formats`, `mesh`, `runs`.
Names are looked up on first use, so that `dreamsplat --help` does not wait for torch. docs/python.md is the tour.
"""

import sys
from types import ModuleType
from typing import Any

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """Keeps the functions `dream` and `render` in place when the modules of the same names are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds each submodule to its parent. Without this, `import dreamsplat.render` anywhere would
        # turn `dreamsplat.render` from the function into the module, depending on which was imported first.
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
