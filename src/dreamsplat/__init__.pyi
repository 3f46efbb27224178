from .config import DreamConfig
from .dream import dream, dream_steps
from .errors import (
    DeviceUnavailable,
    Diverged,
    DreamsplatError,
    FileProblem,
    InvalidInput,
    MissingDependency,
    UnknownWord,
)
from .formats import load, save
from .method.cameras import make_views, orbit
from .presets import PRESETS
from .render import render
from .types import AbstractAsset, Cameras, Gaussians, PointCloud, Rendering, Step, Views

__all__ = [
    "PRESETS",
    "AbstractAsset",
    "Cameras",
    "DeviceUnavailable",
    "Diverged",
    "DreamConfig",
    "DreamsplatError",
    "FileProblem",
    "Gaussians",
    "InvalidInput",
    "MissingDependency",
    "PointCloud",
    "Rendering",
    "Step",
    "UnknownWord",
    "Views",
    "dream",
    "dream_steps",
    "load",
    "make_views",
    "orbit",
    "render",
    "save",
]
__version__: str
